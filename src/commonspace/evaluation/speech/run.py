"""`commonspace evaluate speech`: a model on spoken clips, against cascades through their transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from commonspace.config_values import resolved
from commonspace.errors import ConfigError
from commonspace.evaluation.baselines import RawText, chance
from commonspace.evaluation.comparison import read_comparisons, write_comparisons
from commonspace.evaluation.engine import Evaluated, save
from commonspace.evaluation.results import Scored, current_commit, rows_path, write_rows
from commonspace.evaluation.results_index import SPEECH, write_index
from commonspace.evaluation.run import command_line, scored_folder
from commonspace.evaluation.speech.clips import ENGLISH, Clip, read_clips, read_texts
from commonspace.evaluation.speech.forms import CASCADE, FORMS, GOLD, NATIVE, Asking, column, compare_forms
from commonspace.evaluation.speech.page import said, said_error, write_page
from commonspace.evaluation.speech.questions import build_questions
from commonspace.evaluation.speech.transcripts import error_rows, transcribe
from commonspace.evaluation.suite import Suite
from commonspace.evaluation.surroundings import Surroundings
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.precision import InPrecision
from commonspace.models.weights import resolve_weights
from commonspace.tracking.lineage import write_evaluation_lineage

if TYPE_CHECKING:
    from omegaconf import DictConfig

console = Console()


def main(config: DictConfig) -> None:
    """Evaluate the folder `config.embedder`; on held-out the page and the index of results are made anew."""
    plain = resolved(config)
    data, paths = plain["data"], {name: Path(plain["paths"][name]) for name in ("data", "cache", "docs")}
    place = Surroundings(
        data=paths["data"] / data["tier"], cache=paths["cache"], output=Path(plain["output"]), split=data["split"],
        features=data["features"], weights=plain["weights"], draws=plain["bootstrap"], model=plain["model"],
    )  # fmt: skip
    model_folder = Path(plain["embedder"])
    clips = read_clips(place.data, place.split)
    decoder = resolve_weights(plain["decoder"], plain["weights"], place.cache)
    model = place.prepare(Embedder.load(model_folder).to(best_device()))
    if "audio" not in model.backbone.towers():
        raise ConfigError(f"{model_folder}: has no audio tower, and clips are sounds; take a model that has one")
    scored = scored_folder(model_folder, plain["name"], "query" if plain["prompt"] else "none")
    english = [clip for clip in clips if clip.language == ENGLISH]
    heard = transcribe(english, decoder, place.cache, plain["language"])
    asking = _asking(place, clips)
    spoken = {clip.key: text for clip, text in zip(english, heard, strict=True)}
    embedder = InPrecision(model, plain["precision"])
    done = asking.evaluate(embedder, scored, FORMS, spoken, plain["prompt"])
    folder = (place.output / SPEECH).parent
    raw = _raw_e5(place, asking, spoken) if plain["e5"] else {}
    rivals = {column(scored.model, form): done[form] for form in (CASCADE, GOLD)}
    rivals |= {column("e5", form): part for form, part in raw.items()}
    found = compare_forms(done[NATIVE], rivals, scored.model, place.draws)
    for part in (*done.values(), _chance(asking, place.split), *raw.values()):
        if part.rows:  # a tier of one language has nothing to ask across
            console.print(f"{save(folder, [part])}: {len(part.rows)} rows", soft_wrap=True)
    for part in (part for part in done.values() if part.rows):
        told = {"split": place.split, "suite": folder.name}
        write_evaluation_lineage(rows_path(folder, part.rows[0].model), model_folder, detail=told)
    errors = error_rows(english, heard, _baseline(Path(plain["decoder"]).name), place.split, place.draws)
    write_rows(folder, errors[0].model, errors)
    kept = [one for one in read_comparisons(folder) if one.model != column(scored.model, NATIVE)]
    write_comparisons(folder, [*kept, *found])
    for line in (*map(said_error, errors), *map(said, found)):
        console.print(line, soft_wrap=True)
    if place.split == "heldout":
        console.print(f"{write_page(place.output)}: written", soft_wrap=True)
        if place.output.resolve().parent == (paths["docs"] / "results").resolve():
            write_index(place.output.parent)


def _asking(place: Surroundings, clips: Sequence[Clip]) -> Asking:
    near = place.near_duplicates
    texts = read_texts(place.data, place.split, clips)
    questions = build_questions(clips, texts, place.split, near)
    asked = ", ".join(f"{len(one.clips)} {one.task.direction}" for one in questions)
    console.print(f"{len(clips)} clips and {len(texts)} texts; queries: {asked}", soft_wrap=True)
    return Asking(clips, texts, questions, near, place.draws)


def _baseline(name: str, prefix_policy: str = "none") -> Scored:
    return Scored(name, "baseline", prefix_policy=prefix_policy, commit=current_commit(), command=command_line())


def _chance(asking: Asking, split: str) -> Evaluated:
    done = chance(Suite(split, split, tuple(one.task for one in asking.questions)), asking.near_duplicates)
    return replace(done, rows=[replace(row, command=command_line()) for row in done.rows])


def _raw_e5(place: Surroundings, asking: Asking, heard: Mapping[str, str]) -> dict[str, Evaluated]:
    """{form: rows} of both cascades through the pretrained text encoder as it came, with its own prefixes."""
    model = RawText(lambda contents: place.frozen.vectors(contents, "text", True), ("query: ", "passage: "))
    return asking.evaluate(model, _baseline("e5", "task"), (CASCADE, GOLD), heard, "e5")
