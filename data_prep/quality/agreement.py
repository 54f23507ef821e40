"""How well the two sides of each row agree, as a model sees it: the cosine of their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from commonspace.data.sample import Record
from data_prep.quality.chunks import chunks
from data_prep.quality.signals import Split
from data_prep.quality.vectors import embedded, load, model_print, save


class Scores:
    """Cosines of rows' sides, kept by chunk in the cache, under the fingerprint of the model and the hash of the
    shards; the model loads when one is missing. Raises ConfigError where the folder holds none.
    """

    def __init__(self, model: Path, cache: Path, batch_tokens: int) -> None:
        self.model, self.cache, self.batch_tokens = Path(model), cache, batch_tokens
        self.name = model_print(self.model, "agreement.model")
        self._embedder = None

    def of(self, splits: Sequence[Split], progress: Progress) -> list[np.ndarray]:
        """The cosine of the canonical sides of every row, float32 [records] a split; NaN where a side cannot be
        embedded. An interrupted call goes on. Raises DataError where the cache cannot be written.
        """
        bar = progress.add_task("score agreement", total=sum(len(split.reader) for split in splits))
        found = []
        for split in splits:
            reader, parts = split.reader, []
            for start, stop, path in chunks(reader, self.cache, f"agreement-{self.name}", "npy"):
                if not path.is_file():
                    save(path, self._cosines([reader.read(row) for row in range(start, stop)]))
                parts.append(np.load(path))
                progress.advance(bar, stop - start)
            found.append(np.concatenate(parts))
        return found

    def _cosines(self, records: Sequence[Record]) -> np.ndarray:
        self._embedder = self._embedder or load(self.model)
        sides = [[one.queries[0].content for one in records], [one.positives[0].content for one in records]]
        query_NE, positive_NE = (embedded(self._embedder, contents, self.batch_tokens) for contents in sides)
        return (query_NE * positive_NE).sum(axis=1)


def spread(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """{task: quantiles of its rows' agreement}: what a threshold would leave."""
    places = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        task: {
            f"{place:g}": round(float(value), 4)
            for place, value in zip(places, np.nanquantile(rows, places), strict=True)
        }
        for task, rows in scores.items()
        if np.isfinite(rows).any()
    }
