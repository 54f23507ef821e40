"""`commonspace evaluate pages`: manual pages with figures as one content each, against their text and images alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from commonspace.config_values import resolved
from commonspace.data.features import attach_features
from commonspace.errors import ConfigError
from commonspace.evaluation import report
from commonspace.evaluation.comparison import Compared, read_comparisons, write_comparisons
from commonspace.evaluation.engine import save
from commonspace.evaluation.long_inputs import check_reads_pages
from commonspace.evaluation.long_report import said
from commonspace.evaluation.manual_pages import FOLDER, evaluate_pages, read_pages
from commonspace.evaluation.run import scored_folder
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.precision import InPrecision
from commonspace.tracking.lineage import write_evaluation_lineage

if TYPE_CHECKING:
    from omegaconf import DictConfig

_MOST = 8192  # tokens of a page; the longest of the manual's have some 700
_IMAGES = 64
console = Console()


def main(config: DictConfig) -> None:
    """Evaluate the folder `config.embedder`; on held-out the tier's report is made anew."""
    plain = resolved(config)
    folder, data = Path(plain["embedder"]), plain["data"]
    output = Path(plain["output"])
    model = Embedder.load(folder).to(best_device())
    check_reads_pages(model, folder)
    if data["features"]:
        attach_features(model, Path(plain["paths"]["cache"]))
    take_whole_pages(model, plain["positions"])
    root = Path(plain["paths"]["data"]) / data["tier"]
    pages = read_pages(root, data["split"])
    others = read_pages(root, plain["distractors"]) if plain["distractors"] else []
    scored = scored_folder(folder, plain["name"])
    done, found = evaluate_pages(
        InPrecision(model, plain["precision"]), pages, scored, data["split"], others=others, least=plain["least"],
        draws=plain["bootstrap"],
    )  # fmt: skip
    path = save(output / FOLDER, [done])
    write_evaluation_lineage(path, folder, detail={"split": data["split"], "suite": FOLDER})
    write_comparisons(output / FOLDER, [*_of_others(output / FOLDER, scored.model), *found])
    console.print(f"{path}: {len(done.rows)} rows, {len(pages)} pages among {len(others)} of training", soft_wrap=True)
    for one in found:
        console.print(said(one), soft_wrap=True)
    if data["split"] == "heldout" and report.models(output):
        report.write(output, Path(plain["paths"]["docs"]))


def take_whole_pages(model: Embedder, positions: str) -> None:
    """Set a model to pages beyond its backbone's positions; ConfigError where it has no table to go beyond."""
    try:
        model.set_lengths(positions, _MOST, max_tokens=_MOST, max_text_tokens=_MOST, max_images=_IMAGES)
    except ConfigError as error:
        raise ConfigError(
            f"positions={positions}: a {model.backbone.name} cannot take pages of {_MOST} tokens whole, as this "
            f"evaluation asks; take a model with a table of learned positions, as model=compact ({error})"
        ) from error


def _of_others(folder: Path, model: str) -> Iterator[Compared]:
    return (one for one in read_comparisons(folder) if one.model != model)
