"""Candidates of every query of a task: neighbours looked up, rules applied, a part of the queries at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.mining.options import MiningOptions
from commonspace.mining.parts import job_folder, make_parts, part_paths, write_part
from commonspace.mining.rules import LEFT, RULES, Candidates, Identities, apply_rules, code
from commonspace.mining.search import Graphs, block_of, nearest, ordered
from commonspace.mining.teachers import cosines
from commonspace.mining.vectors import Side, Vectors

EDGES = np.linspace(-1, 1, 81)  # of the report's histograms of cosines
_WIDEST = 2048  # neighbours looked up a query at first, at most
_CHOOSING = ("teacher_margin", "order", "selection", "rank", "count")  # options that candidates do not depend on


@dataclass(frozen=True)
class Search:
    """How neighbours are looked up.

    graph_rows  None: exactly; else graphs of so many targets each, with `expansion` (see `search.Graphs`)
    memory      MB of target vectors a process may hold; more are read again for each part
    """

    graph_rows: int | None = None
    expansion: int = 256
    memory: float = 2000.0
    device: str = "cpu"


EXACT = Search()


@dataclass(frozen=True)
class Pool:
    """One direction of a task: the vectors that ask, those that answer, and who answers whom."""

    query: Vectors
    target: Vectors
    identities: Identities
    usable_N: np.ndarray

    @classmethod
    def of(cls, reader: ShardReader, query: Vectors, target: Vectors, sides: tuple[Side, Side], match: str) -> Pool:
        """Of a task's two sides; `match` says what counts as one concept.

        Raises DataError where fewer than two records have both vectors.
        """
        usable_N = query.fact("usable") & target.fact("usable")
        if usable_N.sum() < 2:
            raise DataError(f"{reader!r}: {usable_N.sum()} records could be embedded, mining needs two at least")
        alone_N = -1 - np.arange(len(reader))  # what could not be embedded equals nothing
        words_N = (query if sides[0] == "query" else target).fact("words")
        identities = Identities(
            query_ids=np.where(usable_N, query.fact("ids"), alone_N),
            target_ids=np.where(usable_N, target.fact("ids"), alone_N),
            concepts=np.where(usable_N, concept_codes(reader, match, words_N), alone_N),
            query_texts=query.fact("texts"),
            target_texts=target.fact("texts"),
        )
        return cls(query, target, identities, usable_N)

    def duplicate_similarity(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        """Cosines of the targets of rows, float32 [P]."""
        return cosines(self.target, self.target, rows_P, others_P)


def concept_codes(reader: ShardReader, match: str, words_N: np.ndarray) -> np.ndarray:
    """What counts as one concept, int64 [N], as evaluation matches: see `evaluation.relevance.labels_of`.

    "concept"; "pair", where a concept holds many things (a page, a module) and only the record's own partner answers;
    "relation", the concept under the words of the query (`words_N`, codes of them).
    """
    if match == "pair":
        return np.arange(len(reader), dtype=np.int64)
    if match not in ("concept", "relation"):
        raise DataError(f"match={match!r}: use concept, pair or relation")
    concepts = reader.index.column("concept").to_pylist()
    if match == "relation":
        concepts = [f"{concept}\0{words}" for concept, words in zip(concepts, words_N.tolist(), strict=True)]
    return np.array([code(concept) for concept in concepts], dtype=np.int64)


def find_candidates(
    reader: ShardReader, pool: Pool, options: MiningOptions, search: Search, root: Path, match: str, progress: bool
) -> tuple[Path, list[Path]]:
    """Candidates of all queries, in parts below `root`: the folder, and its parts, which hold

    asked int64 [Q] rows of the queries, positives float32 [Q], counts int64 [Q], rows, scores, ranks [M] as in
    `rules.Candidates`, fates int64 [2 + rules, bins]: histograms of the scores of neighbours by what became of them,
    those past the window first, then those left, then rule by rule.
    """
    decides = {key: value for key, value in asdict(options).items() if key not in _CHOOSING}
    how = {"graph_rows": search.graph_rows, "expansion": search.expansion if search.graph_rows else None}
    sides = {"query": pool.query.folder.name, "target": pool.target.folder.name}
    folder = job_folder(root, "candidates", **sides, match=match, **decides, **how)
    paths = part_paths(folder, len(pool.query.paths))
    graphs = graphs_of(pool, search, reader.task, progress)
    width = min(_WIDEST, options.depth + pool.identities.most_correct())

    def make(number: int) -> None:
        pool.target.keep(search.memory, search.device)
        write_part(paths[number], part_of(pool, options, search, graphs, width, number))

    make_parts(paths, make, f"searching {reader.task}", progress=progress)
    return folder, paths


def graphs_of(pool: Pool, search: Search, task: str, progress: bool = False) -> Graphs | None:
    """The graphs of a pool's targets, built; None where the search is exact."""
    if search.graph_rows is None:
        return None
    graphs = Graphs(pool.target, search.graph_rows, search.expansion)
    graphs.build(task, progress=progress)
    return graphs


def part_of(
    pool: Pool, options: MiningOptions, search: Search, graphs: Graphs | None, width: int, number: int
) -> dict[str, np.ndarray]:
    """Candidates of the queries of one part, as `find_candidates` keeps them."""
    rows_Q = np.array(pool.query.part(number))
    rows_Q = rows_Q[pool.usable_N[rows_Q]]
    query_QE = torch.from_numpy(pool.query.rows(rows_Q)).to(search.device)
    positive_Q = cosines(pool.query, pool.target, rows_Q, rows_Q)
    found_QK, scores_QK = _neighbours(pool, graphs, query_QE, rows_Q, width, options.depth)
    kept = apply_rules(rows_Q, found_QK, scores_QK, positive_Q, pool.identities, options, pool.duplicate_similarity)
    names = ("rows", "scores", "ranks", "counts")
    arrays = {name: getattr(kept, name) for name in names}
    return {"asked": rows_Q, "positives": positive_Q, **arrays, "fates": _histograms(kept, scores_QK)}


def _neighbours(
    pool: Pool, graphs: Graphs | None, query_QE: torch.Tensor, rows_Q: np.ndarray, width: int, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best `width` of each query, and of those that met too many correct ones among them the best `depth` others.

    A class with more members than that would else have no list.
    """
    size = block_of(query_QE)
    if graphs is not None:
        found_QK, scores_QK = graphs.nearest(query_QE, width)
    else:
        found_QK, scores_QK = nearest(query_QE, pool.target.blocks(size), width, pool.usable_N)
    known_QK = np.logical_or.reduce(list(pool.identities.known_correct(rows_Q, found_QK).values()))
    free_Q = (~known_QK & np.isfinite(scores_QK)).sum(1)
    short = np.flatnonzero((free_Q < depth) & (found_QK.shape[1] < pool.usable_N.sum()))
    if not len(short):
        return found_QK, scores_QK

    def hidden(rows_B: np.ndarray) -> np.ndarray:
        named = pool.identities.known_correct(rows_Q[short], np.broadcast_to(rows_B, (len(short), len(rows_B))))
        return np.logical_or.reduce(list(named.values()))

    more = nearest(query_QE[short], pool.target.blocks(block_of(query_QE[short])), depth, pool.usable_N, hidden)
    empty = np.full((len(rows_Q), more[0].shape[1]), -np.inf, dtype=np.float32)
    found_QK = np.concatenate([found_QK, np.zeros(empty.shape, np.int64)], axis=1)
    scores_QK = np.concatenate([scores_QK, empty], axis=1)
    scores_QK[short, : known_QK.shape[1]] = np.where(known_QK[short], scores_QK[short, : known_QK.shape[1]], -np.inf)
    found_QK[short, known_QK.shape[1] :], scores_QK[short, known_QK.shape[1] :] = more
    return ordered(found_QK, scores_QK)


def _histograms(kept: Candidates, scores_QK: np.ndarray) -> np.ndarray:
    fates = range(-2, len(RULES))
    assert LEFT == -1
    clipped_QK = np.clip(scores_QK, -1, 1)
    finite_QK = np.isfinite(scores_QK)
    return np.stack([np.histogram(clipped_QK[(kept.fate_QK == fate) & finite_QK], EDGES)[0] for fate in fates])


def recall_of_graphs(pool: Pool, search: Search, depth: int, rows_Q: np.ndarray) -> float | None:
    """Share of the exact `depth` nearest that graphs find for some queries; None where the search was exact."""
    if search.graph_rows is None:
        return None
    query_QE = torch.from_numpy(pool.query.rows(rows_Q))
    exact_QK, _ = nearest(query_QE, pool.target.blocks(block_of(query_QE)), depth, pool.usable_N)
    found_QK, _ = Graphs(pool.target, search.graph_rows, search.expansion).nearest(query_QE, depth)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact_QK, found_QK, strict=True)]
    return float(np.sum(hits) / exact_QK.size)
