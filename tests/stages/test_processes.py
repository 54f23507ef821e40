"""Two processes that share a batch take the step of one process that has it all."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from commonspace.data.batch import Batch
from commonspace.objectives.gather import average_gradients
from tests.models.tiny import tiny_embedder
from tests.stages.test_contrastive import make_batch, make_stage

WORLD = 2


def share_of(batch: Batch, rank: int) -> Batch:
    rows = slice(rank * len(batch) // WORLD, (rank + 1) * len(batch) // WORLD)
    sliced = ("query", "positive", "negatives", "query_ids", "positive_ids", "sources")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in sliced})


def gradients(stage) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in stage.named_parameters() if p.grad is not None}


def one_rank(rank: int, folder: str, mixed: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    embedder = tiny_embedder()
    if mixed:  # ranks whose batches use different towers
        batch = make_batch(embedder, kind=("image", "audio")[rank], size=4, negatives=False)
    else:
        batch = share_of(make_batch(embedder, size=6), rank)
    stage = make_stage(embedder, cache_tokens=40)
    stage.backward_batch(batch)
    average_gradients(stage.parameters(), stage.group)
    torch.save(gradients(stage), Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


def run(folder: Path, *, mixed: bool) -> list[dict[str, torch.Tensor]]:
    multiprocessing.spawn(one_rank, (str(folder), mixed), nprocs=WORLD)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_two_processes_have_the_gradient_of_one(tmp_path):
    first, second = run(tmp_path, mixed=False)
    embedder = tiny_embedder()
    stage = make_stage(embedder)
    stage.backward_batch(make_batch(embedder, size=6))
    expected = gradients(stage)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            first[name], gradient, atol=5e-5, rtol=1e-3, msg=lambda said, name=name: f"{name}: {said}"
        )
        assert torch.equal(first[name], second[name]), name


def test_ranks_with_different_modalities_neither_hang_nor_part(tmp_path):
    first, second = run(tmp_path, mixed=True)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for connector in ("image_connector", "audio_connector"):
        assert first[f"embedder.backbone.{connector}.expand.weight"].abs().sum() > 0
