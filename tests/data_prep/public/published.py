"""Small files in the layouts that sets are published in, one function a set, each made after what its YAML says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

from tests.media import numbered_frames, sound_bytes, tone, video_bytes

SETS: dict[str, Callable[[Path], None]] = {}


def layout(function: Callable[[Path], None]) -> Callable[[Path], None]:
    SETS[function.__name__] = function
    return function


def picture(number: int, format: str = "JPEG") -> bytes:
    """A picture of its own for each number."""
    buffer = io.BytesIO()
    values = np.random.default_rng(number).integers(0, 255, (5, 6, 3), np.uint8)
    PILImage.fromarray(values).resize((60, 50)).save(buffer, format)
    return buffer.getvalue()


def put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def put_json(path: Path, value: Any) -> None:
    put(path, json.dumps(value))


def put_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    put(path, gzip.compress(text) if path.suffix == ".gz" else text)


def put_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    put(path, buffer.getvalue())


def put_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def put_tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def sound(number: int) -> bytes:
    return sound_bytes(tone(0.5, hertz=200.0 + 100 * number))


def clip(number: int, seconds: int = 1) -> bytes:
    frames = np.roll(numbered_frames(10 * seconds), number, axis=0)
    return video_bytes(frames, sound=tone(seconds, 48_000, 200.0 + 100 * number))


def _karpathy(folder: Path, dataset: str, places: Sequence[tuple[str, str, str]]) -> None:
    images = []
    for number, (filepath, filename, split) in enumerate(places):
        sentences = [{"raw": f"Scene {number} told {way}.", "tokens": [], "sentid": way} for way in range(5)]
        image = {"filename": filename, "imgid": number, "split": split, "sentences": sentences, "sentids": []}
        images.append({**image, **({"filepath": filepath, "cocoid": 100 + number} if filepath else {})})
    put_json(folder / f"dataset_{dataset}.json", {"images": images, "dataset": dataset})


@layout
def coco(folder: Path) -> None:
    places = [
        ("train2014", "COCO_train2014_000000000100.jpg", "train"),
        ("val2014", "COCO_val2014_000000000101.jpg", "restval"),
        ("val2014", "COCO_val2014_000000000102.jpg", "val"),
        ("val2014", "COCO_val2014_000000000103.jpg", "test"),
    ]
    _karpathy(folder, "coco", places)
    for number, (filepath, filename, _) in enumerate(places):
        put(folder / filepath / filename, picture(number))


@layout
def flickr30k(folder: Path) -> None:
    places = [("", f"10000{number}.jpg", split) for number, split in enumerate(("train", "train", "val", "test"))]
    _karpathy(folder, "flickr30k", places)
    for number, (_, filename, _) in enumerate(places):
        put(folder / "flickr30k-images" / filename, picture(number))


@layout
def docci(folder: Path) -> None:
    rows = []
    for number, split in enumerate(("train", "train", "test", "qual_dev", "qual_test")):
        name = f"{split}_{number:05d}"
        rows.append({"example_id": name, "split": split, "image_file": f"{name}.jpg", "description": f"Long {number}."})
        put(folder / "images" / f"{name}.jpg", picture(number))
    put_lines(folder / "docci_descriptions.jsonlines", rows)


@layout
def textcaps(folder: Path) -> None:
    for split, count in (("train", 2), ("val", 1)):
        rows = []
        for number in range(count):
            name = f"{split}{number:012x}"
            strings = [f"a sign that reads {split} {number} {way}" for way in range(5)]
            put(folder / "train_images" / f"{name}.jpg", picture(number + 10 * len(split)))
            path = f"train/{name}.jpg"
            rows += [
                {
                    "image_id": name,
                    "image_path": path,
                    "caption_id": way,
                    "caption_str": text,
                    "reference_strs": strings,
                }
                for way, text in enumerate(strings)
            ]
        put_json(folder / f"TextCaps_0.1_{split}.json", {"dataset_type": split, "dataset_version": 0.1, "data": rows})


def web_tar(path: Path, first: int, count: int, stats: bool = False) -> None:
    """A tar as img2dataset writes it, and what it leaves beside a finished one."""
    members = {}
    for number in range(first, first + count):
        key = f"{number:09d}"
        members[f"{key}.jpg"] = picture(number)
        members[f"{key}.txt"] = f"alt text {number}".encode()
        about = {"url": f"http://x/{number}", "caption": f"alt text {number}", "key": key, "status": "success"}
        members[f"{key}.json"] = json.dumps({**about, "width": 60, "height": 50, "uid": key}).encode()
    put_tar(path, members)
    if stats:
        put_json(path.with_name(f"{path.stem}_stats.json"), {"count": count + 3, "successes": count})


@layout
def cc3m(folder: Path) -> None:
    web_tar(folder / "cc3m-train-0000.tar", 0, 2)
    web_tar(folder / "cc3m-train-0001.tar", 10, 2)
    web_tar(folder / "cc3m-validation-0000.tar", 20, 1)


@layout
def cc12m(folder: Path) -> None:
    web_tar(folder / "cc12m-train-0000.tar", 0, 3)


@layout
def datacomp(folder: Path) -> None:
    web_tar(folder / "shards/00000000.tar", 0, 2, stats=True)
    web_tar(folder / "shards/00000001.tar", 10_000, 3, stats=True)


@layout
def artcap(folder: Path) -> None:
    put_json(
        folder / "ArtCap.json",
        {f"p{number}.jpg": [f"Painting {number} {way}" for way in range(5)] for number in range(2)},
    )
    for number in range(2):
        put(folder / "ArtCap_Images_Dataset" / f"p{number}.jpg", picture(number))


@layout
def recipe1m(folder: Path) -> None:
    first, second = [], []
    for number, partition in enumerate(("train", "val", "test", "train")):
        name, image = f"00000000{number:02x}", f"a{number}c9f00d{number:02d}.jpg"
        texts = {
            key: [{"text": f"{key} {number} {step}"} for step in range(2)] for key in ("ingredients", "instructions")
        }
        first.append({"id": name, "title": f"Dish {number}", "partition": partition, "url": "http://x", **texts})
        second += [{"id": name, "images": [{"id": image, "url": "http://x"}]}] if number < 3 else []
        put(folder / partition / image[0] / image[1] / image[2] / image[3] / image, picture(number))
    put_json(folder / "layer1.json", first)
    put_json(folder / "layer2.json", second)


@layout
def msr_vtt(folder: Path) -> None:
    for name, splits, where, start in (
        ("train_val", ("train", "train", "validate"), "TrainValVideo", 0),
        ("test", ("test",), "TestVideo", 3),
    ):
        ids = range(start, start + len(splits))
        videos = [
            {"id": number, "video_id": f"video{number}", "category": 9, "url": "http://x", "start time": 1.0,
             "end time": 9.0, "split": split}
            for number, split in zip(ids, splits, strict=True)
        ]  # fmt: skip
        sentences = [
            {"sen_id": 20 * number + way, "video_id": f"video{number}", "caption": f"someone does {number} {way}"}
            for number in ids
            for way in range(3)
        ]
        put_json(folder / f"{name}_videodatainfo.json", {"info": {}, "videos": videos, "sentences": sentences})
        for number in ids:
            put(folder / where / f"video{number}.mp4", clip(number))


@layout
def vatex(folder: Path) -> None:
    for number, (file, chinese) in enumerate(
        (("training_v1.0", True), ("validation_v1.0", True), ("public_test_english_v1.1", False))
    ):
        name = f"Ptf_2VRj-V{number}_000122_000132"
        row = {"videoID": name, "enCap": [f"A person {number} {way}." for way in range(10)]}
        put_json(folder / f"vatex_{file}.json", [{**row, **({"chCap": [f"一个人{number}。"]} if chinese else {})}])
        put(folder / "videos" / f"{name}.mp4", clip(number))


@layout
def youcook2(folder: Path) -> None:
    database = {}
    for number, subset in enumerate(("training", "validation")):
        steps = [{"segment": [step, step + 1], "id": step, "sentence": f"step {step} of {number}"} for step in range(2)]
        about = {"duration": 3.0, "subset": subset, "recipe_type": "113", "video_url": "http://x"}
        database[f"vid{number}"] = {**about, "annotations": steps}
        put(folder / "raw_videos" / subset / "113" / f"vid{number}.mp4", clip(number, seconds=3))
    put_json(folder / "youcookii_annotations_trainval.json", {"database": database})


@layout
def audiocaps(folder: Path) -> None:
    for split, rows in (
        ("train", [(91139, "r1nicOVtvkQ", 130, "A woman talks"), (58146, "s2nicOVtvkQ", 30, "Rain, and wind")]),
        ("val", [(7, "t3nicOVtvkQ", 10, "A dog"), (8, "t3nicOVtvkQ", 10, "A dog barks")]),
        ("test", [(9, "u4nicOVtvkQ", 10, "A cat")]),
    ):
        put_csv(folder / f"{split}.csv", [("audiocap_id", "youtube_id", "start_time", "caption"), *rows])
        for number, row in enumerate(rows):
            put(folder / split / (f"{row[0]}.wav" if split == "train" else f"{row[1]}.wav"), sound(number + len(split)))


@layout
def clotho(folder: Path) -> None:
    for split, names in (
        ("development", ["Distorted AM Radio noise.wav", "Paper_Parchment_Rustling.wav"]),
        ("validation", ["Bees.wav"]),
        ("evaluation", ["Santa Motor.wav"]),
    ):
        rows = [[name, *(f'{name[:4]} "told", way {way}' for way in range(5))] for name in names]
        put_csv(folder / f"clotho_captions_{split}.csv", [("file_name", *(f"caption_{n}" for n in range(1, 6))), *rows])
        for number, name in enumerate(names):
            put(folder / split / name, sound(number + len(split)))


@layout
def vggsound(folder: Path) -> None:
    rows = [("---g-f_I2yQ", 1, "people marching", "test"), ("--0PQM4-hqg", 30, "waterfall burbling", "train")]
    put_csv(folder / "vggsound.csv", rows)
    put(folder / "video/---g-f_I2yQ_000001.mp4", clip(0))
    put(folder / "video/--0PQM4-hqg_000030.mp4", clip(1))


@layout
def codesearchnet(folder: Path) -> None:
    for part, name in enumerate(("train", "valid", "test")):
        for language in ("python", "go"):
            doc = f"Does {name} in {language}."
            code = f'def f_{name}():\n    """{doc}"""\n    return {part}'
            row = {"repo": f"o/{name}", "path": "p", "func_name": "f", "original_string": code, "language": language}
            row |= {"code": code, "code_tokens": [], "docstring": doc, "docstring_tokens": [], "sha": "s"}
            row |= {"url": f"https://x/{language}/{name}#L1", "partition": name}
            put_lines(folder / language / f"final/jsonl/{name}/{language}_{name}_0.jsonl.gz", [row])


@layout
def coir(folder: Path) -> None:
    for task in ("cosqa", "apps"):
        about = {"partition": "train", "language": "python", "title": "", "meta_information": {"note": ""}}
        put_parquet(
            folder / task / "queries/queries-00000-of-00001.parquet",
            [{"_id": f"q{n}", "text": f"{task} how {n}", **about} for n in range(3)],
        )
        put_parquet(
            folder / task / "corpus/corpus-00000-of-00001.parquet",
            [{"_id": f"d{n}", "text": f"{task} code {n}", **about} for n in range(3)],
        )
        for name, pairs in (("train", (0, 1)), ("test", (2,))):
            rows = [{"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in pairs]
            put_parquet(folder / task / f"qrels/{name}-00000-of-00001.parquet", rows)


@layout
def miracl(folder: Path) -> None:
    for language in ("sw", "ja"):
        place = folder / f"miracl-v1.0-{language}"
        for part, first in (("train", 0), ("dev", 2)):  # ids of both begin anew upstream
            topics = "".join(f"{n}\t{language} {part} question {n}?\n" for n in range(2))
            put(place / f"topics/topics.miracl-v1.0-{language}-{part}.tsv", topics)
            judged = "".join(f"{n}\tQ0\t{first + n}#0\t1\n{n}\tQ0\t9#{n}\t0\n" for n in range(2))
            put(place / f"qrels/qrels.miracl-v1.0-{language}-{part}.tsv", judged)
        documents = [f"{n}#0" for n in range(4)] + ["9#0", "9#1", "77#7"]
        for number, some in enumerate((documents[:3], documents[3:])):
            rows = [{"docid": name, "title": f"T{name}", "text": f"{language} passage {name}"} for name in some]
            put_lines(folder / f"miracl-corpus-v1.0-{language}/docs-{number}.jsonl.gz", rows)


def _beir(folder: Path) -> None:
    put_lines(
        folder / "corpus.jsonl",
        [{"_id": f"d{n}", "title": f"T{n}", "text": f"passage {n}", "metadata": {}} for n in range(8)],
    )
    put_lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"query {n}?", "metadata": {}} for n in range(4)])
    for name, rows in (
        ("train", [("q0", "d0"), ("q0", "d1"), ("q1", "d2")]),
        ("dev", [("q2", "d3")]),
        ("test", [("q3", "d4")]),
    ):
        lines = "".join(f"{query}\t{document}\t1\n" for query, document in rows)
        put(folder / f"qrels/{name}.tsv", f"query-id\tcorpus-id\tscore\n{lines}")


@layout
def hotpotqa(folder: Path) -> None:
    _beir(folder)


@layout
def fever(folder: Path) -> None:
    _beir(folder)


@layout
def nq(folder: Path) -> None:
    for name, count in (("train", 2), ("dev", 1)):
        rows = []
        for number in range(count):
            passages = {
                f"{kind}_passages": [
                    {"docid": f"{kind[0]}{number}{n}", "title": f"{kind} {n}", "text": f"{name} text {number} {n}"}
                    for n in range(size)
                ]
                for kind, size in (("positive", 3), ("negative", 12))
            }
            rows.append({"query_id": str(number), "query": f"{name} query {number}", "answers": ["x"], **passages})
        put_lines(folder / f"nq-{name}.jsonl.gz", rows)


@layout
def nli(folder: Path) -> None:
    for name, count in (("train", 3), ("dev", 1), ("test", 1)):
        rows = [
            {"anchor": f"{name} {n} sleeps.", "positive": f"{name} {n} rests.", "negative": f"{name} {n} runs."}
            for n in range(count)
        ]
        put_parquet(folder / f"triplet/{name}-00000-of-00001.parquet", rows)


@layout
def vidore(folder: Path) -> None:
    for name, files in (("train", 2), ("test", 1)):
        for file in range(files):
            rows = [
                {
                    "image": {"bytes": picture(100 * file + n + len(name), "PNG"), "path": None},
                    "image_filename": f"i{n}.png", "query": f"{name} {file} {n}?", "answer": "x", "source": "pdf",
                    "options": None, "page": "1", "model": None, "prompt": None, "answer_type": None,
                }
                for n in range(2)
            ]  # fmt: skip
            put_parquet(folder / f"data/{name}-{file:05d}-of-{files:05d}.parquet", rows)


@layout
def bge(folder: Path) -> None:
    for name, count in (("nq", 2), ("msmarco", 1)):
        rows = [
            {"query": f"{name} {n}?", "pos": [f"{name} answer {n}", f"another {n}"],
             "neg": [f"{name} wrong {n} {way}" for way in range(10)]}
            for n in range(count)
        ]  # fmt: skip
        put_lines(folder / f"{name}.jsonl", rows)


@layout
def pixmo_docs(folder: Path) -> None:
    for kind, first in (("charts", 0), ("tables", 10)):
        for side, numbers in (("train", (0, 1)), ("validation", (2,))):
            rows = [
                {
                    "image_id": f"{kind}{n}", "image": {"bytes": picture(200 + first + n, "PNG"), "path": None},
                    "questions": {"question": [f"how many {kind} {n}?", "which?"], "answer": ["two", "none"]},
                }
                for n in numbers
            ]  # fmt: skip
            put_parquet(folder / kind / f"{side}-00000-of-00001.parquet", rows)
