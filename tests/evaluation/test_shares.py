"""Two processes that share an evaluation have what one has: the same vectors bit for bit, the same rows."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from commonspace import Content
from commonspace.content import Image
from commonspace.errors import CommonspaceError
from commonspace.evaluation import shares
from commonspace.evaluation.results import read_rows
from commonspace.evaluation.run import evaluate_folder
from commonspace.evaluation.shares import InShares, embed_in_shares, process_group
from commonspace.evaluation.suite import build_suite
from commonspace.evaluation.surroundings import Surroundings
from commonspace.models import embedder as embedder_module
from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import gather_shares
from commonspace.stages.dev import DevRetrieval
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.tiny import WORDS, contents, tiny_embedder

WORLD, CHUNK = 2, 3  # contents a chunk: seven contents are three chunks, two and one a process


def texts() -> list[Content]:
    return [Content(" ".join(WORDS[: 1 + i % 9])) for i in range(20)]


def broken() -> list[Content]:
    """One content that nobody can read, in the second process's share."""
    return [*contents()[:3], Content(Image(b"\x89PNG broken", name="broken.png")), *contents()[3:]]


def found(folder: Path, group: dist.ProcessGroup | None) -> dict:
    """What evaluation makes of a model, in shares where there is a group."""
    model = Embedder.load(folder / "model")
    pieces = [model.processor(content) for content in [*contents(), *texts()]]
    suite = build_suite(folder / "data", "dev")
    shared = model if group is None else InShares(model, group)
    try:
        said = str(shared.embed(broken()))
    except CommonspaceError as error:
        said = f"{type(error).__name__}: {error}"
    return {
        "pieces": embed_in_shares(model, pieces, 24, group),
        "one batch": embed_in_shares(model, pieces[:1], 24, group),
        "contents": torch.from_numpy(shared.embed(contents(), task="search result", role="query", batch_tokens=64)),
        "dev": DevRetrieval(suite, model.processor).scores(model, batch_tokens=32, group=group),
        "said": said,
    }


def one_rank(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    shares.CHUNK = embedder_module.CHUNK = CHUNK
    here, group = Path(folder), process_group()
    place = place_of(here, "together")
    path = evaluate_folder(place, here / "model", name="m", group=group)
    assert (path is None) == (rank == 1), "one process writes"
    torch.save(found(here, group), here / f"{rank}.pt")
    dist.destroy_process_group()


def place_of(folder: Path, output: str) -> Surroundings:
    place = Surroundings(folder / "data", folder / "cache", folder / output, features=False, draws=20)
    object.__setattr__(place, "near_duplicates", {})
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    tiny_embedder().save(folder / "model")
    rng = np.random.default_rng(0)
    for split in ("dev", "heldout"):
        images = []
        for number, words in enumerate(WORDS[:8]):
            data = picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
            images.append(record(f"i{number}", "image_caption", words, Content(Image(data)), ("en", Content(words))))
        write(folder / "data", "image_caption", images, split)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_rank, (str(folder), port), nprocs=WORLD)
    return folder


@pytest.mark.slow
def test_vectors_and_scores_are_those_of_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_module, "CHUNK", CHUNK)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = found(folder, None)
    torch.set_num_threads(threads)
    for rank in range(WORLD):
        together = torch.load(folder / f"{rank}.pt", weights_only=True)
        assert torch.equal(together["pieces"], alone["pieces"]) and together["dev"] == alone["dev"]
        assert all(torch.equal(together[what], alone[what]) for what in ("one batch", "contents"))


@pytest.mark.slow
def test_a_content_that_cannot_be_read_ends_all_processes_and_one_names_it(folder: Path) -> None:
    said = [torch.load(folder / f"{rank}.pt", weights_only=True)["said"] for rank in range(WORLD)]
    assert said[1].startswith("ContentError") and "broken.png" in said[1]
    assert said[0] == "DataError: another process could not embed its share; its own message names the content"


@pytest.mark.slow
def test_rows_of_an_evaluation_are_those_of_one_process(folder: Path) -> None:
    one = read_rows(evaluate_folder(place_of(folder, "alone"), folder / "model", name="m"))
    both = read_rows(folder / "together" / "m.jsonl")
    assert len(one) == len(both) > 0
    for mine, theirs in zip(one, both, strict=True):
        assert (mine.task, mine.metric, mine.dim, mine.value) == (theirs.task, theirs.metric, theirs.dim, theirs.value)


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert process_group() is None
    embedder = tiny_embedder()
    pieces = [embedder.processor(content) for content in contents()]
    assert torch.equal(embed_in_shares(embedder, pieces), embedder.embed_pieces(pieces))


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(CommonspaceError, match=r"process 0 of 1 holds 2 rows, where all count on \[3\]"):
        gather_shares(torch.zeros(2, 4), [3], None)
