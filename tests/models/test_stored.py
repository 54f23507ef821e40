"""Tensors on disk by name: each read when it is asked for, and reading leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace.models.stored import SomeTensors, StoredTensors


def test_some_tensors_are_no_others(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1), "b": torch.zeros(1)}, tmp_path / "x.safetensors")
    some = SomeTensors(StoredTensors(tmp_path / "x.safetensors"), ["b"])
    assert list(some) == ["b"] and len(some) == 1 and some["b"] == 0
    with pytest.raises(KeyError):
        some["a"]
    with pytest.raises(KeyError):
        StoredTensors(tmp_path / "x.safetensors")["c"]


_SOUP = """
import sys, threading, time
from pathlib import Path
import psutil
from commonspace.models.averaging import average_tensors, write_tensors
from commonspace.models.stored import StoredTensors
folder, process, peak, done = Path(sys.argv[1]), psutil.Process(), 0, threading.Event()
def watch():
    global peak
    while not done.is_set():
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.001)
threading.Thread(target=watch, daemon=True).start()
for count in (2, 2, 8):  # the first also warms the process up
    peak = before = process.memory_info().rss
    files = [StoredTensors(folder / f"{n}.safetensors") for n in range(count)]
    write_tensors(average_tensors(files), folder / f"soup{count}.safetensors")
    print(peak - before)
assert not {"peft", "transformers"} & set(sys.modules), "averaging needs neither"
"""


def test_memory_stays_at_about_two_models_however_many_ingredients(tmp_path: Path) -> None:
    """Resident memory, mapped pages of files included, of a process that averages 2 or 8 models of 24 MB."""
    size = 24 * 2**20
    for number in range(8):
        layers = {f"layer{n}": torch.full((3 * 2**17,), float(number + n)) for n in range(16)}
        save_file(layers, tmp_path / f"{number}.safetensors")
    assert (tmp_path / "0.safetensors").stat().st_size >= size
    words = [sys.executable, "-c", _SOUP, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    warm, two, eight = map(int, done.stdout.split())
    assert max(two, eight) < 2.2 * size and warm > 0.9 * size, (warm, two, eight)
    assert load_file(tmp_path / "soup8.safetensors")["layer3"][0] == 3.5 + 3
