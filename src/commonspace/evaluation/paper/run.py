"""`commonspace evaluate paper`: a table of the paper on public data, published rows beside the measured one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from commonspace.config_values import resolved
from commonspace.content import Content
from commonspace.errors import ConfigError
from commonspace.evaluation.engine import Embeds
from commonspace.evaluation.mteb.rivals import is_ours, rival_fingerprint
from commonspace.evaluation.paper.models import ALIGN, OPEN_CLIP, load_model
from commonspace.evaluation.paper.page import page, save, saved, with_means
from commonspace.evaluation.paper.places import place, placed
from commonspace.evaluation.paper.pools import Figure, Pool, score
from commonspace.evaluation.paper.rows import DataSet, Row, Table, pool_of, read_table
from commonspace.evaluation.results import current_commit, write_text
from commonspace.evaluation.run import command_line
from commonspace.models.device import best_device
from commonspace.models.folder import folder_fingerprint

if TYPE_CHECKING:
    from omegaconf import DictConfig

_CHUNK = 1024  # contents embedded at once, their vectors kept: a pool of clips does not fit in memory
console = Console()


def main(config: DictConfig) -> None:
    """Measure `config.embedder` on the rows of a table; rows measured before by the same model and options are kept."""
    plain = resolved(config)
    table = read_table(plain["table"], plain["sets"], plain["rows"])
    folder, name = Path(plain["output"]), plain["name"] or _name(plain["embedder"])
    measured = [row for row in table.rows if row.set]
    if unknown := sorted(set(plain["only"] or ()) - {row.row for row in measured}):
        raise ConfigError(f"only: {', '.join(unknown)} is no measured row of {table.name}")
    asked = [row for row in measured if not plain["only"] or row.row in plain["only"]]
    sets = placed(table, asked, plain["root"], plain["folders"] or {})
    find = place(plain["root"], plain["folders"] or {}, Path(plain["paths"]["cache"]))
    about = _about(plain)
    before = saved(folder).get(name, {})
    same = {key: before.get(key) for key in _SAME} == {key: about[key] for key in _SAME}
    figures = {key: one for key, one in before["rows"].items() if "queries" in one} if same else {}
    model: Any = None
    for row in asked:
        data = sets[str(row.set)]
        console.print(f"{row.row}: reading {data.name}", soft_wrap=True)
        pool = pool_of(row, data, find, plain["absent"])
        question = _question(row, data, pool, plain)
        if figures.get(row.row, {}).get("question") == question:
            console.print(f"{row.row}: is there", soft_wrap=True)
            continue
        model = model or _model(plain)
        figures[row.row] = {**asdict(_measure(model, row, pool, plain)), "question": question, **_copy(data)}
        save(folder, name, with_means(table, figures), about)  # after each row: a killed job goes on at the next
        console.print(f"{row.row}: {100 * figures[row.row]['value']:.1f}", soft_wrap=True)
    _write(table, folder)


def _question(row: Row, data: DataSet, pool: Pool, plain: Mapping[str, Any]) -> str:
    """A fingerprint of what a row asks: other data, right answers, metric, options or draws are measured again."""
    asked = {key: value for key, value in asdict(row).items() if key != "published"}
    told = json.dumps([asked, asdict(data), pool.digest(), plain["bootstrap"]], sort_keys=True, default=list)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _copy(data: DataSet) -> dict[str, str]:
    """Of a set that is read from the hub, where: its pool may be another than the paper's."""
    return {} if data.hub is None else {"copy": f"{data.hub['repo']}@{data.hub['revision'][:12]}"}


# What figures of a model have in common; a change measures every row again.
_SAME = ("embedder", "weights", "root", "absent", "video", "precision")


def _write(table: Table, folder: Path) -> None:
    text = page(table, folder)
    write_text(folder / "README.md", text)
    console.print(text, soft_wrap=True, markup=False)


def _name(embedder: str) -> str:
    return embedder.rstrip("/").split(":")[-1].replace("/", "-") if ":" in embedder else Path(embedder).name


def _about(plain: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: plain[key] for key in ("absent", "video", "precision")}
    folder = Path(plain["embedder"].removeprefix(OPEN_CLIP).removeprefix(ALIGN))
    weights = folder_fingerprint(folder)[:16] if is_ours(folder) else rival_fingerprint(folder)
    return {
        **facts,
        "embedder": _name(plain["embedder"]),
        "weights": weights,
        "root": Path(plain["root"]).name,
        "commit": current_commit(),
        "command": command_line(),
    }


def _model(plain: Mapping[str, Any]) -> Embeds:
    video = {f"video_{key}": value for key, value in plain["video"].items() if value is not None}
    cache = Path(plain["paths"]["cache"]) if plain["features"] else None
    return load_model(plain["embedder"], best_device(), precision=plain["precision"], video=video, cache=cache)


def _measure(model: Embeds, row: Row, pool: Pool, plain: Mapping[str, Any]) -> Figure:
    vectors = _vectors(model, pool)
    return score(pool, vectors[0], vectors[1], str(row.metric), plain["bootstrap"])


def _vectors(model: Embeds, pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    """Of queries and items; media and texts about them take no prefix (paper section 4)."""
    return _embedded(model, pool.queries), _embedded(model, pool.items)


def _embedded(model: Embeds, contents: Sequence[Content]) -> torch.Tensor:
    chunks = [contents[start : start + _CHUNK] for start in range(0, len(contents), _CHUNK)]
    return torch.cat([torch.as_tensor(model.embed(list(chunk), progress=True)) for chunk in chunks])
