"""The paper's data sets in small, in the layouts in which they are published, with made media."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.models.tiny import WORDS


def write_all(root: Path) -> Path:
    """One folder a data set, as `configs/experiment/paper` names them."""
    rng = np.random.default_rng(5)
    say = lambda: " ".join(rng.choice(WORDS, 6))  # noqa: E731
    for make in (_karpathy, _docci, _textcaps, _videos, _images, _captions, _recipes, _questions, _pages, _speech):
        make(root, rng, say)
    return root


Say = Callable[[], str]


def _picture(path: Path, rng: np.random.Generator) -> None:
    _put(path, picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8), "JPEG"))


def _put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def _jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def _karpathy(root: Path, rng: np.random.Generator, say: Say) -> None:
    for folder, file, extra in (
        ("coco", "dataset_coco.json", {"filepath": "val2014"}),
        ("flickr30k", "dataset_flickr30k.json", {}),
    ):
        images = [
            {"split": split, "filename": f"{n}.jpg", "sentences": [{"raw": say()} for _ in range(5)], **extra}
            for n, split in enumerate(["test", "test", "test", "val", "train"])
        ]
        _put(root / folder / file, json.dumps({"images": images, "dataset": folder}))
        for one in images:
            place = extra.get("filepath", "flickr30k-images")
            _picture(root / folder / place / one["filename"], rng)


def _docci(root: Path, rng: np.random.Generator, say: Say) -> None:
    rows = [
        {"example_id": f"{split}_{n}", "split": split, "image_file": f"{split}_{n}.jpg", "description": say()}
        for split in ("test", "train")
        for n in range(3)
    ]
    _put(root / "docci/docci_descriptions.jsonlines", _jsonl(rows))
    for row in rows:
        _picture(root / "docci/images" / row["image_file"], rng)


def _textcaps(root: Path, rng: np.random.Generator, say: Say) -> None:
    data = [{"image_id": f"{n % 3:016x}", "caption_str": say(), "set_name": "val"} for n in range(6)]
    _put(root / "textcaps/TextCaps_0.1_val.json", json.dumps({"data": data}))
    for n in range(3):
        _picture(root / f"textcaps/train_images/{n:016x}.jpg", rng)


def _videos(root: Path, rng: np.random.Generator, say: Say) -> None:
    vatex = [{"videoID": f"v{n}_000001_000011", "enCap": [say(), say()], "chCap": []} for n in range(3)]
    _put(root / "vatex/vatex_public_test_english_v1.1.json", json.dumps(vatex))
    msrvtt = [
        {"key": f"ret{n}", "vid_key": f"msr{n}", "video_id": f"video{7010 + n}", "sentence": say()} for n in range(3)
    ]
    _csv(root / "msrvtt/MSRVTT_JSFUSION_test.csv", msrvtt)
    segments = [{"id": n, "segment": [n, n + 1], "sentence": say()} for n in range(2)]
    database = {
        "a": {"subset": "validation", "annotations": segments},
        "b": {"subset": "training", "annotations": segments},
    }
    _put(root / "youcook2/youcookii_annotations_trainval.json", json.dumps({"database": database}))
    names = [f"vatex/videos/{one['videoID']}" for one in vatex] + [f"msrvtt/videos/{one['video_id']}" for one in msrvtt]
    for number, name in enumerate([*names, "youcook2/clips/a_0", "youcook2/clips/a_1"]):
        _put(root / f"{name}.mp4", video_bytes(numbered_frames(3 + number)))


def _images(root: Path, rng: np.random.Generator, say: Say) -> None:
    for synset in ("n01440764", "n01443537"):
        for number in range(3):
            _picture(root / f"imagenet/val/{synset}/ILSVRC2012_val_{synset}_{number}.JPEG", rng)
    rows = [
        {"file_name": f"{role}/{n}.jpg", "label": f"mug {n % 3}", "role": role}
        for role, count in (("query", 2), ("index", 6))
        for n in range(count)
    ]
    _csv(root / "guiec/metadata.csv", rows)
    for row in rows:
        _picture(root / "guiec" / row["file_name"], rng)


def _captions(root: Path, rng: np.random.Generator, say: Say) -> None:
    _put(root / "artcap/ArtCap.json", json.dumps({f"{n}.jpg": [say() for _ in range(5)] for n in range(4)}))
    for n in range(4):
        _picture(root / f"artcap/ArtCap_Images_Dataset/{n}.jpg", rng)
    for name in ("microvqa", "astrollava"):
        rows = [{"file_name": f"{n % 4}.jpg", "text": say()} for n in range(6)]
        _put(root / name / "metadata.jsonl", _jsonl(rows))
        for n in range(4):
            _picture(root / name / f"{n}.jpg", rng)


def _recipes(root: Path, rng: np.random.Generator, say: Say) -> None:
    recipes = [
        {
            "id": f"{n:010x}",
            "partition": "test" if n < 4 else "train",
            "title": say(),
            "ingredients": [{"text": say()}, {"text": say()}],
            "instructions": [{"text": say()}],
        }
        for n in range(5)
    ]
    images = [{"id": one["id"], "images": [{"id": f"abcd{one['id']}.jpg", "url": ""}]} for one in recipes]
    _put(root / "recipe1m/layer1.json", json.dumps(recipes))
    _put(root / "recipe1m/layer2.json", json.dumps(images))
    for one in images[:4]:
        _picture(root / "recipe1m/test/a/b/c/d" / one["images"][0]["id"], rng)


def _questions(root: Path, rng: np.random.Generator, say: Say) -> None:
    asked = [  # a single answer, an annotator's alternative, a list, a list of which two annotators name different ones
        ("landmarks", "0c1fa2e93b7d5e48", "automatic", "fox"),
        ("landmarks", "7a90b3d1c2e4f586", "2_hop", "red fox|fox"),
        ("inaturalist", "2686843", "multi_answer", "snow&&bird"),
        ("inaturalist", "101", "multi_answer", "snow&&red fox|bird && tree"),
    ]
    rows = [
        {"question": say(), "answer": answer, "dataset_image_ids": f"{image}|9", "dataset_name": name,
         "dataset_category_id": 7, "question_type": kind}
        for name, image, kind, answer in asked
    ]  # fmt: skip
    _csv(root / "encyclopedic_vqa/test.csv", rows)
    for name, image, _, _ in asked:
        _picture(root / f"encyclopedic_vqa/images/{name}/{image}.jpg", rng)


def _pages(root: Path, rng: np.random.Generator, say: Say) -> None:
    for name in ("esg_reports_v2", "economics_reports_v2", "biomedical_lectures_v2", "esg_reports_human_labeled_v2"):
        folder = root / "vidore" / name
        pages = [
            {"bytes": picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)), "path": None} for _ in range(4)
        ]
        tables = {
            "queries": {"query-id": [0, 1], "query": [say(), say()], "language": ["english", "french"]},
            "corpus": {"corpus-id": [10, 11, 12, 13], "image": pages},
            "qrels": {"query-id": [0, 0, 1, 1], "corpus-id": [10, 11, 12, 13], "score": [1, 2, 1, 0]},
        }
        for table, columns in tables.items():
            (folder / table).mkdir(parents=True)
            pd.DataFrame(columns).to_parquet(folder / table / "test-00000-of-00001.parquet")


def _speech(root: Path, rng: np.random.Generator, say: Say) -> None:
    passages = [
        {"id": f"{locale}{n}", "locale": locale, "title": say(), "text": say()}
        for locale in ("en_us", "ko_kr")
        for n in range(4)
    ]
    asked = [("en_us", "en_us"), ("ko_kr", "ko_kr"), ("ko_kr", "en_us")]
    queries = [
        {"audio": f"audio/{spoken}-{written}-{n}.wav", "text": say(), "asr": say(), "locale": spoken,
         "passage_id": f"{written}{n}", "passage_locale": written}
        for spoken, written in asked
        for n in range(3)
    ]  # fmt: skip
    _put(root / "mseb/passages.jsonl", _jsonl(passages))
    _put(root / "mseb/queries.jsonl", _jsonl(queries))
    for number, row in enumerate(queries):
        _put(root / "mseb" / row["audio"], sound_bytes(tone(0.3, hertz=200 + 60 * number)))
