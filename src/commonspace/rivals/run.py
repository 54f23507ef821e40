"""`commonspace rival`: trains a peer and leaves its folder, whole or not at all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from commonspace.config_values import resolved
from commonspace.evaluation.results import current_commit
from commonspace.files import write_json
from commonspace.models.replacing import replaced_folder
from commonspace.rivals.clip import train_clip
from commonspace.rivals.sentence import train_sentence_transformers
from commonspace.rivals.tries import Given

if TYPE_CHECKING:
    from omegaconf import DictConfig

KINDS = {"clip": train_clip, "st": train_sentence_transformers}
console = Console()


def main(config: DictConfig) -> None:
    """Train `config.rival` on a tier's rows; `training.json` of its folder says how."""
    plain = resolved(config)
    options, output = plain["rival"], Path(plain["output"])
    given = Given(
        Path(plain["paths"]["data"]) / plain["data"]["tier"], Path(plain["paths"]["cache"]), plain["weights"],
        plain["seed"], plain["data"]["limit"], plain["data"]["dev_limit"],
    )  # fmt: skip
    with replaced_folder(output, "rival") as folder:
        tried = KINDS[options["name"]](options, given, folder)
        told = {
            "rival": options, "folders": sorted(path.name for path in folder.iterdir() if path.is_dir()),
            "stage": "rival", "seed": plain["seed"], "run_id": None, "tier": plain["data"]["tier"],
            "tries": [asdict(one) for one in tried], "commit": current_commit(),
        }  # fmt: skip
        write_json(folder / "training.json", told)
    console.print(f"{output}: {tried[0].dev:.4f} on dev", soft_wrap=True)
