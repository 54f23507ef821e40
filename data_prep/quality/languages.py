"""Whether texts are in another language than their rows state, by py3langid: kept by chunk in the cache.

Its model lies inside the package: arrays read without unpickling. Probabilities are normalised over its 139 languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress

from commonspace.content import Content
from commonspace.data.sample import Variant
from commonspace.errors import ConfigError
from data_prep.quality.chunks import chunks, write_chunks, written
from data_prep.quality.signals import Split, texts_of

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

VERSION = 1
_MOST = 2000  # characters that are read
_COLUMNS = (("other", pa.string()), ("share", pa.float32()), ("letters", pa.int32()))
SCHEMA = pa.schema([(f"{side}_{name}", kind) for side in ("query", "positive") for name, kind in _COLUMNS])
# Told apart by spelling or a few words alone, or one language with its dialects and scripts: taken as the first.
_ALIKE = "no nb nn, hr sr bs sh, ms id, ar ary arz, zh yue wuu, ku sdh ckb, he hbo, el grc, uz uzs, tl fil".split(", ")
_AS = {code: codes.split()[0] for codes in _ALIKE for code in codes.split()}


def load_identifier() -> LanguageIdentifier:
    """Raises ConfigError where the package is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "limits.language: needs py3langid; pip install 'commonspace[quality]', or leave it null"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(splits: Sequence[Split], cache: Path, workers: int, progress: Progress) -> list[pa.Table]:
    """For each split a table [records] of SCHEMA: `other` is the language of a side's text where that is not the one
    its first variant states, `share` that language's probability, `letters` how many the text has. Null where none is
    stated, or one that the identifier does not know; where the text is of the one stated, or of no language.

    Raises:
        ConfigError: py3langid is not installed.
        DataError: the cache cannot be written.
    """
    load_identifier()  # to be told before any row is read
    what = f"language-{VERSION}-{version('py3langid')}"
    kept = {split: chunks(split.reader, cache, what, "parquet") for split in splits}
    left = [(split, *chunk) for split, found in kept.items() for chunk in found if not chunk[2].is_file()]
    total = sum(len(split.reader) for split in splits)
    done = total - sum(stop - start for _, start, stop, _ in left)
    bar = progress.add_task("identify languages", total=total, completed=done)
    write_chunks(left, identify_chunk, workers, lambda rows: progress.advance(bar, rows))
    return [pa.concat_tables([pq.read_table(path) for _, _, path in kept[split]]) for split in splits]


@lru_cache(maxsize=1)
def _loaded() -> LanguageIdentifier:
    """Once a process."""
    return load_identifier()


def identify_chunk(split: Split, start: int, stop: int, path: Path) -> None:
    """Write what is heard of rows `start` to `stop`."""
    identifier, reader = _loaded(), split.reader
    records = (reader.read(row) for row in range(start, stop))
    rows = [
        _side("query", record.queries[0], identifier) | _side("positive", record.positives[0], identifier)
        for record in records
    ]
    with written(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial)


def _side(side: str, variant: Variant, identifier: LanguageIdentifier) -> dict[str, Any]:
    other, share = another(variant.content, variant.language, identifier)
    letters = None if other is None else sum(map(str.isalpha, texts_of(variant.content)[:_MOST]))
    return {f"{side}_other": other, f"{side}_share": share, f"{side}_letters": letters}


def another(
    content: Content, stated: str | None, identifier: LanguageIdentifier
) -> tuple[str, float] | tuple[None, None]:
    """The language of a content's texts and its probability, where that is not the one stated (SCHEMA says when)."""
    text = texts_of(content)[:_MOST]
    if stated is None or not text or as_told_apart(stated) not in {as_told_apart(code) for code in identifier.labels}:
        return None, None
    shares: dict[str, float] = {}
    for code, share in identifier.rank(text):
        shares[as_told_apart(code)] = shares.get(as_told_apart(code), 0.0) + share
    most = max(shares, key=shares.__getitem__)
    return (None, None) if most in (as_told_apart(stated), "zxx") else (most, shares[most])


@lru_cache(maxsize=4096)
def as_told_apart(code: str) -> str:
    """A language code without script and country, and as the first of those that are not told apart: "no" of nb_NO."""
    base = code.replace("-", "_").replace("@", "_").partition("_")[0].lower()
    return _AS.get(base, base)
