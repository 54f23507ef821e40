"""Shards are plain webdataset tars: the library itself reads them, so they can be taken elsewhere."""

import json
from pathlib import Path

import webdataset

from commonspace import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter


def test_webdataset_reads_a_shard_sample_by_sample(tmp_path: Path) -> None:
    records = [
        Record(
            f"fox{i}", "image_caption", "made", f"fox {i}",
            (Variant(Content(Image(bytes([i] * 40), name="fox.png"))),), (Variant(Content(f"fox number {i}"), "en"),),
        )
        for i in range(5)
    ]  # fmt: skip
    with ShardWriter(tmp_path, "image_caption", "train", {"made": "CC0-1.0"}) as writer:
        for record in records:
            writer.write(record)
    dataset = webdataset.WebDataset(str(tmp_path / "train-00000.tar"), shardshuffle=False)
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == [record.key for record in records]
    for i, sample in enumerate(samples):
        described = json.loads(sample["json"])
        assert described["positives"][0]["content"] == [f"fox number {i}"]
        member = described["queries"][0]["content"][0]["image"]
        assert sample[member] == bytes([i] * 40)
