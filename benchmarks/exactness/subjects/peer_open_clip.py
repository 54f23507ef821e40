"""open_clip: its losses over processes, and its `train_one_epoch` with `--accum-freq`, as they are installed."""

from __future__ import annotations

import itertools
from argparse import Namespace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.exactness.subject import Gathering, Gradients, NotOffered, Subject, Trace
from benchmarks.exactness.subjects.own import PAIRS, TEMPERATURE, all_pairs, both_ways
from benchmarks.exactness.toy import contents, gradients, make_encoder

SCALE = torch.tensor(1 / TEMPERATURE, dtype=torch.float64)


def clip(local_loss: bool, with_grad: bool, encoder, query, positive, _, rank: int, world: int) -> Tensor:
    from open_clip.loss import ClipLoss

    loss = ClipLoss(local_loss=local_loss, gather_with_grad=with_grad, rank=rank, world_size=world)
    return 2 * loss(*(F.normalize(encoder(side), dim=-1) for side in (query, positive)), SCALE)


def siglip(exchange: str, encoder, query, positive, _, rank: int, world: int) -> Tensor:
    from open_clip.loss import SigLipLoss

    loss = SigLipLoss(rank=rank, world_size=world, dist_impl=exchange)
    return loss(*(F.normalize(encoder(side), dim=-1) for side in (query, positive)), SCALE, -torch.ones(()).double())


GATHERS = {
    f"ClipLoss, {'local' if local else 'global'} loss, gather {'with' if grad else 'without'} gradient": Gathering(
        partial(clip, local, grad), both_ways
    )
    for local, grad in itertools.product((True, False), (True, False))
} | {
    f"SigLipLoss, dist_impl={exchange}": Gathering(partial(siglip, exchange), all_pairs)
    for exchange in ("bidir", "shift", "reduce", "gather")
}


class TwoSides(nn.Module):
    """One encoder for both sides, with CLIP's learned scale."""

    def __init__(self, flags: frozenset[str]) -> None:
        super().__init__()
        self.encoder = make_encoder(flags)
        self.logit_scale = nn.Parameter(SCALE.log())

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        sides = [F.normalize(self.encoder(side), dim=-1) for side in (images, texts)]
        return {"image_features": sides[0], "text_features": sides[1], "logit_scale": self.logit_scale.exp()}


class Batches:
    """A data set of one large batch in parts, with what `train_one_epoch` asks of it."""

    def __init__(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        self.parts, self.num_batches, self.num_samples = parts, len(parts), PAIRS
        self.dataloader = self

    def __iter__(self):
        return iter(self.parts)

    def set_epoch(self, epoch: int) -> None:
        pass


def caching(flags: frozenset[str]) -> tuple[Gradients, Gradients]:
    """A step of SGD on one batch in two parts: the change of weights over the rate is the gradient it took."""
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

    if missing := flags & {"mrl", "negatives"}:
        raise NotOffered(f"its losses have no {' and '.join(sorted(missing))}")
    images, texts = contents(2, PAIRS)
    parts = list(zip(images.chunk(2), texts.chunk(2), strict=True))
    plain, cached = TwoSides(flags), TwoSides(flags)
    torch.manual_seed(7)
    outputs = [plain(*part) for part in parts]
    sides = [torch.cat([output[side] for output in outputs]) for side in ("image_features", "text_features")]
    ClipLoss()(*sides, outputs[0]["logit_scale"]).backward()

    rate, before = 1e-2, {name: p.detach().clone() for name, p in cached.named_parameters() if p.requires_grad}
    options = Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=2, skip_scheduler=True, grad_clip_norm=None,
        horovod=False, rank=0, world_size=1, batch_size=PAIRS // 2, log_every_n_steps=1, wandb=False,
        log_local=False, local_rank=0,
    )  # fmt: skip
    torch.manual_seed(7)
    optimiser = torch.optim.SGD(cached.parameters(), lr=rate)
    train_one_epoch(cached, {"train": Batches(parts)}, ClipLoss(), 0, optimiser, None, None, None, options)
    after = dict(cached.named_parameters())
    return gradients(plain), {name: (old - after[name].detach()) / rate for name, old in before.items()}


def resume(folder: Path, stop: int | None) -> Trace:
    """Its command saves, and goes on, between epochs only."""
    raise NotOffered("between epochs only: a run stopped within one starts that epoch anew")


SUBJECT = Subject("open_clip", GATHERS, caching, resume)
