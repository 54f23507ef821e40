"""Data sets of the paper's tables in the two forms in which mteb keeps them on the hub, read as mteb reads them.

datasets is an extra (`pip install -e '.[rivals]'`), imported inside functions, never at the top. It finds the files by
the repository's card and streams them: what it keeps of a folder it keeps by the last name of its path alone, so that
another folder of that name would be taken for it. Encoded media are held in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content, Image, Video
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.paper.pools import Captioned


def mteb_captions(folder: Path, kind: str = "image", split: str = "test") -> Captioned:
    """A retrieval set of mteb's: configs queries (id, text), corpus (id and KIND), qrels (query-id, corpus-id, score).

    The same texts, media and judgements as mteb's `RetrievalDatasetLoader` takes of it. A text that is right for many
    media is a text of each, as in the publishers' files; one that is judged right for none is left out.
    """
    datasets = _datasets(folder)
    try:
        configs = datasets.get_dataset_config_names(str(folder))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder}: is no data set as the hub has them ({error}); fetch it again") from error
    judged = "default" if "default" in configs else "qrels"
    asked = "query" if "query" in configs else "queries"
    if lacking := [name for name in (judged, asked, "corpus") if name not in configs]:
        raise DataError(f"{folder}: has no config {', '.join(lacking)}, only {', '.join(configs)}; fetch it again")
    right: dict[str, list[str]] = defaultdict(list)
    for row in _rows(folder, judged, split, "query-id", "corpus-id", "score"):
        if row["score"] > 0:
            right[str(row["query-id"])].append(str(row["corpus-id"]))
    texts: dict[str, list[str]] = defaultdict(list)
    for row in _rows(folder, asked, split, "id", "text"):
        for item in right[str(row["id"])]:
            texts[item].append(row["text"])
    corpus = {str(row["id"]): row[kind] for row in _rows(folder, "corpus", split, "id", kind)}
    if lost := sorted(set(texts) - set(corpus)):
        raise DataError(f"{folder}: judges {lost[0]} and {len(lost) - 1} more that its corpus lacks; fetch it again")
    return Captioned(kind, _media(folder, kind, list(corpus.values())), [texts[item] for item in corpus])


def mteb_pairs(folder: Path, text: str, kind: str = "video", split: str = "test") -> Captioned:
    """A set of mteb's with a medium and its text in each row: columns KIND and TEXT of the split."""
    rows = _rows(folder, None, split, kind, text)
    return Captioned(kind, _media(folder, kind, [row[kind] for row in rows]), [[row[text]] for row in rows])


def _datasets(folder: Path) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{folder}: mteb's data sets are read by datasets: run make setup, or pip install -e '.[rivals]'"
        ) from error
    return datasets


def _rows(folder: Path, config: str | None, split: str, *columns: str) -> list[dict[str, Any]]:
    """These columns of a config's split (or of the one split it has), media as they were encoded."""
    datasets = _datasets(folder)
    try:
        splits = datasets.get_dataset_split_names(str(folder), config)
        only = splits[0] if len(splits) == 1 and config is not None else split
        rows = datasets.load_dataset(str(folder), config, split=only, streaming=True).decode(False)
        if "_id" in rows.column_names and "id" in columns:
            rows = rows.rename_column("_id", "id")
        if lacking := [name for name in columns if name not in rows.column_names]:
            have = ", ".join(rows.column_names)
            raise DataError(f"{folder}: has no column {', '.join(lacking)} in {config or 'its rows'}, only {have}")
        return list(rows.select_columns(list(columns)))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{folder}: {config or 'its rows'}: cannot be read ({error}); fetch it again") from error


def _media(folder: Path, kind: str, values: list[Mapping[str, Any] | None]) -> list[Content]:
    if kind not in ("image", "video"):
        raise ConfigError(f"{folder}: kind {kind!r} is neither image nor video")
    made = []
    for number, value in enumerate(values):
        known = value or {}
        source = known.get("bytes") or known.get("path")
        if not source:
            raise DataError(f"{folder}: row {number} has no {kind}; fetch the set with its media")
        name = f"{folder.name}, {kind} {number}"
        made.append(Content(Image(source, name) if kind == "image" else Video(source, name, sound=False)))
    return made
