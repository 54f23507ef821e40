"""Seconds and peak memory of looking up hard negatives among a million vectors: exactly, and by graphs.

    python benchmarks/mining.py [--work FOLDER] [--json FILE] [--quick]

A million made-up vectors of 384 numbers, in ten thousand clusters, lie in FOLDER as mining keeps them (1.5 GB);
graphs are built of a fifth of that, in four. Each row is a process of its own that starts with nothing in memory, as
`commonspace mine` does: it opens the vectors, reads who answers whom, and finds the candidates of a part of 1024
queries, rules applied. Memory is the growth of that process, mapped files included. The peer is sentence-
transformers' `semantic_search`, which is given the vectors as one matrix and applies no rules. A second call uses the
files and graphs that the first left: one that is cut short goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import PeakMemory, Table, alone, machine, run, seconds
from commonspace.mining.candidates import Pool, Search, graphs_of, part_of, recall_of_graphs
from commonspace.mining.options import MiningOptions
from commonspace.mining.parts import make_parts, write_part, write_whole
from commonspace.mining.rules import Identities
from commonspace.mining.search import Graphs
from commonspace.mining.vectors import Vectors, save_rows

RECORDS, WIDTH, CHUNK, CLUSTER = 1_000_000, 384, 1024, 100
GRAPHS_OF, GRAPH_ROWS = 200_000, 50_000  # building graphs of a million takes an hour of a core
QUICK = {"records": 3000, "graphs_of": 2500, "width": 16, "graph_rows": 1024}
OPTIONS = MiningOptions(depth=100)
COLUMNS = {
    "what": ("", ""),
    "records": ("records", ","),
    "queries": ("queries", ","),
    "seconds": ("seconds", ".1f"),
    "whole_hours": ("hours, all queries, one process", ".2f"),
    "mb": ("MB", ".0f"),
    "recall": ("recall@100", ".3f"),
}
EXACT, KEPT, PEER = "exact, read block by block", "exact, vectors in memory", "sentence-transformers, vectors in memory"
BUILD, SEARCH = "build one graph", "search all graphs"


def side(folder: Path, name: str, records: int, width: int, parts: int | None = None) -> Vectors:
    """Made-up vectors on disk, of the query side the first `parts` alone: those that are asked."""
    vectors = Vectors(folder / f"{name}-{records}-{width}", records, CHUNK)

    def make(number: int) -> None:
        rows = np.array(vectors.part(number))
        if parts is None or number < parts:
            values = _clustered(rows, width, name)
            write_whole(vectors.paths[number].with_suffix(".npy"), lambda path, values=values: save_rows(path, values))
        facts = {key: rows + 1 + shift for shift, key in ((0, "ids"), (10**9, "texts"), (0, "words"))}
        write_part(vectors.paths[number], facts | {"usable": np.ones(len(rows), dtype=bool)})

    make_parts(vectors.paths, make, f"making vectors ({name})", progress=True)
    return vectors


def _clustered(rows: np.ndarray, width: int, name: str) -> np.ndarray:
    """Unit vectors around one centre a cluster; rows of one cluster lie apart, as concepts do in shards."""
    clusters = rows % max(1, RECORDS // CLUSTER)
    centres = np.stack([np.random.default_rng(cluster).normal(size=width) for cluster in clusters])
    noise = np.random.default_rng([int(rows[0]), len(name)]).normal(size=(len(rows), width))
    values = (centres + 0.7 * noise).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pool_of(folder: Path, records: int, width: int) -> Pool:
    """The task as mining opens it: every record of a concept of its own."""
    query, target = side(folder, "query", records, width, parts=1), side(folder, "positive", records, width)
    ids = [query.fact("ids"), target.fact("ids") + 10**10, np.arange(records)]
    texts = [query.fact("texts"), target.fact("texts") + 10**10]
    return Pool(query, target, Identities(*ids, *texts), query.fact("usable") & target.fact("usable"))


def measured(what: str, folder: str, records: int, width: int, graph_rows: int) -> dict[str, float]:
    """Seconds, and MB by which this process grows, of one way."""
    peak = PeakMemory()
    if what == PEER:
        spent = seconds(lambda: _peer(Path(folder), records, width))
        return {"mb": peak.growth() / 1e6, "seconds": spent}
    pool = pool_of(Path(folder), records, width)
    if what == BUILD:
        graphs = Graphs(pool.target, graph_rows, 256)
        graphs.paths[0].unlink(missing_ok=True)
        return {"seconds": seconds(lambda: graphs._make(0)), "mb": peak.growth() / 1e6}
    search = Search(graph_rows if what == SEARCH else None, memory=1e9 if what == KEPT else 0)
    graphs = graphs_of(pool, search, "made-up pairs")
    width_K = OPTIONS.depth + pool.identities.most_correct()

    def candidates() -> None:
        pool.target.keep(search.memory, "cpu")
        part_of(pool, OPTIONS, search, graphs, width_K, 0)

    found = {"seconds": seconds(candidates), "mb": peak.growth() / 1e6}
    recall = recall_of_graphs(pool, search, OPTIONS.depth, np.array(pool.query.part(0))[:200])
    return found | ({} if recall is None else {"recall": recall})


def _peer(folder: Path, records: int, width: int) -> None:
    from sentence_transformers.util import semantic_search

    query, target = side(folder, "query", records, width, parts=1), side(folder, "positive", records, width)
    target.keep(1e9, "cpu")
    asked = torch.from_numpy(query.rows(np.array(query.part(0))))
    semantic_search(asked, target._kept, top_k=OPTIONS.depth + 4, query_chunk_size=CHUNK, corpus_chunk_size=31_250)


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    whole = {"records": RECORDS, "graphs_of": GRAPHS_OF, "width": WIDTH, "graph_rows": GRAPH_ROWS}
    size = QUICK if options.quick else whole
    about = f"Candidates of {CHUNK} queries, depth {OPTIONS.depth}, vectors of {size['width']} numbers."
    table = Table(COLUMNS, machine(options.quick), options.json, about)
    for what in (EXACT, KEPT, PEER, BUILD, SEARCH):
        records = size["graphs_of"] if what in (BUILD, SEARCH) else size["records"]
        pool_of(options.work, records, size["width"])
        call = {"folder": str(options.work), "records": records, "width": size["width"]}
        found = alone(__file__, what=what, **call, graph_rows=size["graph_rows"])
        queries = min(size["graph_rows"], records) if what == BUILD else min(CHUNK, records)
        hours = found["seconds"] * records / queries / 3600
        table.add(what=what, records=records, queries=queries, whole_hours=hours, **found)


if __name__ == "__main__":
    run(__doc__, main, measured, work="cache/mining-benchmark")
