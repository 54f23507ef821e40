"""Contents of several lengths in one row: what each would be alone, through attention without padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from commonspace import Content, Embedder
from commonspace.models.backbones.compact import CompactBackbone
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.packing import Packing, packed_attention
from commonspace.models.backbones.windows import windowed_attention
from commonspace.processing.pieces import Pieces
from tests.models.tiny import picture, sound, tiny_embedder

LENGTHS = [4, 1, 6, 4]
CONTENTS = [Content("a red fox"), Content("snow"), Content("a", picture(1), sound()), Content("red fox in " * 12)]


def padded(numbers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch [B, L, D] of `LENGTHS` with padding that must never be read, and its mask."""
    mask_BL = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    values_BLD = torch.randn(*mask_BL.shape, numbers, generator=torch.Generator().manual_seed(0))
    return values_BLD.masked_fill(~mask_BL[..., None], torch.nan), mask_BL


def test_tokens_stand_shorter_contents_first_and_come_back() -> None:
    values_BLD, mask_BL = padded(3)
    made = Packing.of(mask_BL)
    packed_1TD = made.pack(values_BLD)
    assert made.runs == [(1, 1), (2, 4), (1, 6)]
    torch.testing.assert_close(packed_1TD[0], torch.cat([values_BLD[row, : LENGTHS[row]] for row in (1, 0, 3, 2)]))
    torch.testing.assert_close(made.unpack(packed_1TD, mask_BL.shape), values_BLD.nan_to_num(0))


@pytest.mark.parametrize("window", [None, 2])
def test_each_content_attends_to_itself_alone(window: int | None) -> None:
    module = nn.Module()
    module.window, module.is_causal = window, False
    values_BLD, mask_BL = padded(3 * 2 * 5)  # queries, keys and values of two heads
    made = Packing.of(mask_BL)

    def heads(rows: torch.Tensor) -> list[torch.Tensor]:
        return [part.unflatten(-1, (2, 5)).transpose(1, 2) for part in rows.chunk(3, dim=-1)]

    found_1THD, _ = packed_attention(module, *heads(made.pack(values_BLD)), None, runs=made.runs, scaling=0.5)
    found_BLD = made.unpack(found_1THD.flatten(2), mask_BL.shape)
    for row, length in enumerate(LENGTHS):
        alone, _ = windowed_attention(module, *heads(values_BLD[row : row + 1, :length]), None, scaling=0.5)
        torch.testing.assert_close(found_BLD[row, :length], alone[0].flatten(1), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "lengths",
    [{}, {"positions": "interpolate", "max_positions": 400}, {"positions": "restart", "max_positions": 400},
     {"window": 16, "global_every": 2}, {"merge_beyond": 20}],
    ids=str,
)  # fmt: skip
def test_states_and_gradients_are_those_of_padding(lengths: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = tiny_embedder()
    more = {"max_tokens": 400, "max_text_tokens": 400} if "positions" in lengths else {}
    embedder.set_lengths(**lengths, **more)
    contents = [*CONTENTS, *([Content("red fox in " * 60)] if more else [])]
    pieces = [embedder.processor(content) for content in contents]
    packed = vectors_and_gradients(embedder, pieces, rows=1)
    monkeypatch.setattr(CompactBackbone, "_transformed", InputsEmbedsBackbone._transformed)  # as on a GPU
    one_padded_batch = vectors_and_gradients(embedder, pieces, rows=len(pieces))
    for one, other in zip(packed, one_padded_batch, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def vectors_and_gradients(embedder: Embedder, pieces: list[Pieces], rows: int) -> list[torch.Tensor]:
    """Of one forward pass, which hands the encoder so many rows."""
    shapes: list[torch.Size] = []
    encoder = embedder.backbone.text.encoder
    hook = encoder.register_forward_hook(lambda module, given, output: shapes.append(output[0].shape))
    vectors_NE = embedder._vectors(pieces)
    hook.remove()
    assert [shape[0] for shape in shapes] == [rows]
    embedder.zero_grad()
    vectors_NE.square().sum().backward()
    return [vectors_NE.detach(), *(p.grad.clone() for p in embedder.parameters() if p.grad is not None)]
