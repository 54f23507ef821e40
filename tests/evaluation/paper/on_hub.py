"""Repositories of the hub in small, in the two forms in which mteb keeps its data sets there, as it uploads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.models.tiny import WORDS

QUERIES = {"q7": "a red fox", "q2": "snow falls", "q5": "a blue bird", "q9": "the fox runs", "q0": "asked by nobody"}
JUDGED = [("q2", "i1", 1), ("q7", "i0", 1), ("q5", "i2", 1), ("q9", "i0", 1), ("q9", "i2", 1), ("q5", "i0", 0)]


def write_hub(root: Path) -> Path:
    """`root/OWNER/NAME` of every set of the tables that mteb keeps."""
    import datasets

    datasets.disable_progress_bars()
    rng = np.random.default_rng(3)
    for name in ("mteb/flickr30kt2i", "mteb/mbeir_mscoco_task0"):
        _retrieval(root / name, rng, empty_pictures="mscoco" in name)
    for name, text, count in (
        ("mteb/MSR-VTT", "caption", 3),
        ("mteb/VATEX_test_1k", "caption", 4),
        ("mteb/YouCook2_val", "sentence", 2),
    ):
        _pairs(root / name, text, count)
    return root


def _retrieval(folder: Path, rng: np.random.Generator, empty_pictures: bool) -> None:
    """Configs queries, corpus and qrels; in the queries of M-BEIR's sets a column of pictures that are none."""
    from datasets import Features, Image, Value

    text, picture = Value("string"), Image()
    queries: dict[str, list[Any]] = {"id": list(QUERIES), "modality": ["text"] * 5, "text": list(QUERIES.values())}
    features = {"id": text, "modality": text, "text": text}
    if empty_pictures:
        queries["image"], features["image"] = [None] * 5, picture
    shown = [
        {"bytes": picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8), "JPEG"), "path": f"{n}.jpg"}
        for n in range(3)
    ]
    corpus = {"id": ["i0", "i1", "i2"], "modality": ["image"] * 3, "image": shown}
    qrels = dict(zip(("query-id", "corpus-id", "score"), map(list, zip(*JUDGED, strict=True)), strict=True))
    _write(
        folder,
        {
            "corpus": (corpus, Features({"id": text, "modality": text, "image": picture})),
            "qrels": (qrels, Features({"query-id": text, "corpus-id": text, "score": Value("int64")})),
            "queries": (queries, Features(features)),
        },
    )


def _pairs(folder: Path, text: str, count: int) -> None:
    """One config, a clip with its soundtrack and text in each row."""
    from datasets import Audio, Features, Value, Video

    columns = {
        "video_id": [f"video{7010 + n}" for n in range(count)],
        text: [f"{WORDS[n]} {WORDS[n + 1]}" for n in range(count)],
        "video": [{"bytes": video_bytes(numbered_frames(3 + n)), "path": f"{n}.mp4"} for n in range(count)],
        "audio": [{"bytes": sound_bytes(tone(0.2, hertz=300 + n)), "path": f"{n}.wav"} for n in range(count)],
    }
    features = {"video_id": Value("string"), text: Value("string"), "video": Video(), "audio": Audio()}
    _write(folder, {"default": (columns, Features(features))})


def _write(folder: Path, configs: Mapping[str, tuple[dict[str, Any], Any]]) -> None:
    """What `Dataset.push_to_hub(REPO, CONFIG)` leaves: a parquet file, and the card that names it."""
    from datasets import Dataset

    card = ["---", "configs:"]
    for name, (columns, features) in configs.items():
        where = "data" if name == "default" else name
        card += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {where}/test-*"]
        (folder / where).mkdir(parents=True)
        Dataset.from_dict(columns, features=features).to_parquet(folder / where / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
