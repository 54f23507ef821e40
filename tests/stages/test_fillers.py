"""Contents of no weight: which are added where, and that they reach every parameter a real content reaches."""

from __future__ import annotations

import pytest
import torch

from commonspace import Content
from commonspace.stages import fillers
from commonspace.stages.fillers import MODALITIES, Fillers, modalities
from tests.models.native import HEARING, built_native
from tests.models.tiny import clip, contents, picture, sound, tiny_embedder
from tests.stages.processes import model

GROUP = object()


def reached(embedder, batch) -> set[str]:
    """Names of the parameters that a backward pass through these contents gives a gradient."""
    embedder.zero_grad(set_to_none=True)
    embedder(batch).sum().backward()
    return {name for name, p in embedder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pooling", ["mean", "input_and_last"])
@pytest.mark.parametrize("number", range(len(contents())))
def test_fillers_of_a_contents_modalities_reach_all_it_reaches(pooling, number):
    embedder = model(pooling).train()
    real = embedder.processor(contents()[number])
    others = [Fillers(embedder.processor).of(name) for name in modalities([real])]
    text = embedder.processor(Content("a fox"))
    assert reached(embedder, [real, text]) <= reached(embedder, [*others, text])
    assert all(torch.isfinite(p.grad).all() for p in embedder.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", ["omni", "qwen3_vl"])
def test_so_do_those_of_a_backbone_with_towers_of_its_own(family, tmp_path):
    embedder = built_native(tmp_path, family).train()
    text = embedder.processor(Content("a fox"))
    for part in (picture(1), clip(2), *([sound()] if family in HEARING else [])):
        real = embedder.processor(Content(part))
        others = [Fillers(embedder.processor).of(name) for name in modalities([real])]
        assert others and reached(embedder, [real, text]) <= reached(embedder, [*others, text])


def told_by_another(monkeypatch: pytest.MonkeyPatch, has: set[str], chunks: int) -> None:
    """As if there were a second process with these modalities and so many chunks."""
    flags = torch.tensor([name in has for name in MODALITIES])
    monkeypatch.setattr(fillers, "any_process", lambda own, group: own | flags)
    monkeypatch.setattr(fillers, "gather_counts", lambda count, group, device: [count, chunks])


def test_a_process_takes_what_it_lacks_and_only_that(monkeypatch):
    process = tiny_embedder().processor
    made = [process(Content(text)) for text in ("a fox", "a bird", "snow")]
    told_by_another(monkeypatch, {"image"}, 5)
    filled, chunks = Fillers(process).fill(made, [[0], [1, 2]], GROUP)
    assert filled[:3] == made and chunks == [[0], [1, 2, 3]] and modalities(filled[3:]) == {"image"}
    told_by_another(monkeypatch, {"text"}, 5)
    assert Fillers(process).fill(made, [[0], [1, 2]], GROUP) == (made, [[0], [1, 2]])


def test_for_sharded_weights_every_chunk_has_all_and_all_have_as_many(monkeypatch):
    process = tiny_embedder().processor
    made = [process(content) for content in (Content("a fox"), Content(picture(1)), Content("a", clip(2)))]
    told_by_another(monkeypatch, {"audio"}, 4)
    filled, chunks = Fillers(process).fill(made, [[0], [1], [2]], GROUP, every_chunk=True)
    assert len(chunks) == 4 and sorted(i for chunk in chunks for i in chunk) == list(range(len(filled)))
    assert [chunk[0] for chunk in chunks[:3]] == [0, 1, 2]
    for chunk in chunks:
        assert modalities(filled[i] for i in chunk) == {"text", "image", "audio"}


def test_modalities_of_pieces():
    process = tiny_embedder().processor
    assert modalities([process(Content(clip(1)))]) == {"image"}
    assert modalities([process(Content("a fox")), process(Content(sound()))]) == {"text", "audio"}
