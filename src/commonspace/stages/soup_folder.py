"""The folder of a soup: a model folder as its ingredients are, with its recipe in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commonspace.models.adapter_folder import save_adapter_folder
from commonspace.models.averaging import GreedySoup, write_tensors
from commonspace.models.blend import Blend
from commonspace.models.folder import golden_vectors, write_json
from commonspace.models.ingredients import WEIGHTS
from commonspace.models.replacing import replaced_folder
from commonspace.stages.soup_kitchen import Kitchen
from commonspace.stages.sources import Source, card_sources, merged, sources_section


def soup_recipe(kitchen: Kitchen, blend: Blend, kind: str, trials: GreedySoup[int] | None) -> dict[str, Any]:
    """soup.json: how it was made, of what (hashes, runs, each one's own dev score), and what it scores on dev.

    `trials` are those of the greedy search; a learned soup has the loss of every step in their place.
    """
    ingredients, told = kitchen.ingredients, blend.to_json()
    members = [
        {
            "name": ingredients[member].label,
            "sha256": ingredients[member].sha256,
            "run_id": ingredients[member].run_id,
            "share": share,
            "dev": kitchen.scores(Blend((member,)))["mean"],
        }
        for member, share in zip(blend.members, told["shares"], strict=True)
    ]
    recipe = {
        "kind": kind,
        "weights": "equal" if blend.ratios is None else list(blend.ratios),
        "path": blend.path,
        "lora": kitchen.plain["lora"],
        "base": kitchen.plain["base"],
        "ingredients": members,
        "dev": kitchen.scores(blend),
        "dev_loss": kitchen.losses(blend),
        "run_id": kitchen.run_id,
    }
    if blend.by_layer:
        recipe |= {"weights": "by layer", "by_layer": told["by_layer"]}
        for member in members:
            del member["share"]
    if kind == "learned":
        recipe |= {"learned": {**kitchen.plain["learned"], "losses": kitchen.stage.curve}}
    if trials is not None:
        named = [[ingredients[m].label for m in trial.members] for trial in trials.trials]
        recipe["trials"] = [{**asdict(t), "members": n} for t, n in zip(trials.trials, named, strict=True)]
    return recipe


def save_soup(kitchen: Kitchen, blend: Blend, output: Path, recipe: Mapping[str, Any]) -> None:
    """A model folder like the ingredients', with the blend's weights, new golden vectors and the soup's recipe.

    Of adapters blended by their factors it is an adapter's folder again. Whole or not at all.
    """
    kitchen.stage.put(blend)
    members = [kitchen.ingredients[member] for member in blend.members]
    sources = merged([source for one in members for source in (card_sources(one.folder), card_sources(one.whole))])
    card, embedder = soup_card(output.name, recipe, sources), kitchen.stage.embedder.eval()
    if kitchen.plain["lora"] == "factors":
        save_adapter_folder(embedder, output, members[0].whole, card, recipe=recipe)
        return
    with replaced_folder(output) as target:
        own = (WEIGHTS, "README.md", "golden.json", "training.json", "soup.json", "lineage.json")
        shutil.copytree(members[0].whole, target, ignore=shutil.ignore_patterns(*own), dirs_exist_ok=True)
        write_tensors(kitchen.stage.tensors(blend, list(members[0].tensors)), target / WEIGHTS)
        write_json(target / "golden.json", golden_vectors(embedder))
        write_json(target / "soup.json", recipe)
        (target / "README.md").write_text(card)


def soup_card(name: str, recipe: Mapping[str, Any], sources: Mapping[str, Source]) -> str:
    """README.md of a soup: what is in it, and all that its ingredients were trained on."""
    names = ", ".join(entry["name"] for entry in recipe["ingredients"])
    weights = {"equal": "equal weights", "by layer": "weights by layer"}
    given = recipe["weights"] if isinstance(recipe["weights"], str) else ""
    told = weights.get(given, f"weights {recipe['weights']}")
    return f"""# {name}

The {recipe["kind"]} soup ({told}) of {names}; dev MRR@10 {recipe["dev"]["mean"]:.3f}.
`soup.json` has its recipe, scores and the hashes of the ingredients; run `{recipe["run_id"]}`.

{sources_section(sources)}"""
