"""`commonspace evaluate ablations`: the families of cells that have ended, as a page with plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from commonspace.errors import DataError
from commonspace.evaluation.plots import png
from commonspace.evaluation.results_index import ABLATIONS, write_index
from commonspace.evaluation.run import command_line
from commonspace.evaluation.studies.compare import FOLDER, read_studies, study
from commonspace.evaluation.studies.family import read_cells, read_family
from commonspace.evaluation.studies.log import log_study
from commonspace.evaluation.studies.page import page, reading
from commonspace.evaluation.studies.plot import draw
from commonspace.files import replaced, write_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

console = Console()


def main(config: DictConfig) -> None:
    """Read the families whose runs are here, keep what they say, and write the page of all that are kept."""
    from hydra.core.hydra_config import HydraConfig

    output, tier, runs = Path(config.output), config.data.tier, Path(config.paths.runs) / config.data.tier
    kept = {one.family: one for one in read_studies(output)}
    cells = read_cells(runs)
    (configs,) = (Path(one.path) for one in HydraConfig.get().runtime.config_sources if one.provider == "main")
    families = [read_family(path) for path in sorted((configs / "ablation").glob("*.yaml"))]
    logs = (cell.config["logger"]["wandb"] for cell in cells)
    project = next((one["project"] for one in logs if one), "commonspace")
    for family in track(families, "families", console=Console(stderr=True)):
        try:
            found = study(family, cells)
        except DataError as error:  # of this family; the page of the others is made all the same
            console.print(f"{family.name}: {error}", soft_wrap=True)
            continue
        if found is not None and (family.name not in kept or found.found >= kept[family.name].found):
            write_text(output / FOLDER / f"{family.name}.json", json.dumps(found.to_json(), indent=1) + "\n")
    kept = read_studies(output)
    if not kept:
        raise DataError(
            f"{config.paths.runs}/{tier}: no cell of an ablation has ended; "
            f"`commonspace launch experiment={tier}/cell ablation=FAMILY` makes some"
        )
    for one in kept:
        with replaced(output / FOLDER / f"{one.family}.png") as partial:
            partial.write_bytes(png(draw(one)))
        if config.wandb != "none":
            log_study(one, reading(one, tier), runs / "studies", config.wandb, project)
    typed = {path.stem: path.read_text().strip() for path in (output / FOLDER).glob("*.md")}
    write_text(output / ABLATIONS, page(tier, command_line(), kept, typed))
    if output == Path(config.paths.docs) / "results" / tier:
        write_index(output.parent)
    console.print(f"{output / ABLATIONS}: {len(kept)} families, {sum(one.found for one in kept)} cells", soft_wrap=True)
