"""This project passes every check of the suite; trainers with the known faults, and only they, are found out."""

from __future__ import annotations

import pytest
import torch

from benchmarks.exactness import caching, gather, resume
from benchmarks.exactness.__main__ import report
from benchmarks.exactness.compare import distance
from benchmarks.exactness.subject import OURS, PEERS, NotOffered, Subject, find

BROKEN = "tests.benchmarks.exactness.broken:SUBJECT"


def test_distance_names_the_tensor_that_is_off():
    expected = {"a": torch.ones(4), "b": torch.full((2,), 1e-3)}
    off = distance({"a": torch.ones(4), "b": torch.full((2,), 2e-3)}, expected)
    assert off.worst == "b" and off.error == pytest.approx(1.0) and not off.exact
    assert distance(expected, expected).exact
    with pytest.raises(ValueError, match="one side alone has b"):
        distance({"a": torch.ones(4)}, expected)
    with pytest.raises(ValueError, match="all zero"):
        distance({"a": torch.ones(4)}, {"a": torch.zeros(4)})


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_gathers_here_are_exact(world, tmp_path):
    found = gather.check(OURS, world, tmp_path)
    assert len(found) == 4
    assert {name: result.error for name, result in found.items() if not result.exact} == {}


def test_caching_here_is_exact():
    found = caching.check(find(OURS))
    assert set(found) == {"nothing", *caching.FLAGS, "all of them"}
    assert {name: result for name, result in found.items() if isinstance(result, str) or not result.exact} == {}


def test_resuming_here_is_exact(tmp_path):
    found = resume.check(find(OURS), tmp_path)
    assert found.same == found.later == resume.STEPS - resume.STOP
    assert found.weights.error == 0 and found.exact


@pytest.mark.slow
def test_the_known_faults_of_a_gather_are_found(tmp_path):
    found = gather.check(BROKEN, 2, tmp_path)
    assert found["factor"].ratio == pytest.approx(2) and found["factor"].cosine == pytest.approx(1)
    assert found["detached"].cosine < 0.999
    assert not any(result.exact for result in found.values())


def test_other_masks_and_data_from_the_start_are_found(tmp_path):
    cached = caching.check(find(BROKEN))
    assert cached["mrl"].exact and not cached["dropout"].exact
    resumed = resume.check(find(BROKEN), tmp_path)
    assert not resumed.exact and resumed.same < resumed.later


def test_what_is_not_offered_says_so(tmp_path):
    def no(*_):
        raise NotOffered("it has none")

    subject = Subject("silent", {}, no, no)
    assert set(caching.check(subject).values()) == {"it has none"} and resume.check(subject, tmp_path) == "it has none"
    assert set(caching.check(Subject("empty")).values()) == {"no caching"}


@pytest.mark.slow
def test_the_page_has_every_subject_and_every_check():
    pytest.importorskip("sentence_transformers")
    lines = list(report([OURS, *PEERS], 2))
    text = "\n".join(lines)
    ours = [line for line in lines if line.startswith("| commonspace |")]
    assert len(ours) == 5 and all(line.endswith("| yes |") for line in ours)
    # What the installed peers do today; a release that mends it writes docs/results/exactness.md anew.
    off = [line for line in lines if line.startswith("| open_clip |") and "**no**" in line]
    assert len(off) == 2 and all("gather without gradient" in line for line in off)
    assert "logit_scale" in text and "between epochs only" in text
