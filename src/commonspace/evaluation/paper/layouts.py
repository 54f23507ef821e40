"""The data sets of the paper's tables in the layouts in which they are published, read into pools.

Every function takes the data set's folder and options of its own, and `absent` ("error" or "skip") where it reads
media. docs/paper_tables.md has the layouts as trees.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Image, Video
from commonspace.errors import DataError
from commonspace.evaluation.paper.files import read_lines, read_metadata, read_parquet, read_table
from commonspace.evaluation.paper.mteb_forms import mteb_captions, mteb_pairs
from commonspace.evaluation.paper.pools import Captioned, Pool, present, read_json


def karpathy(folder: Path, file: str, split: str = "test", images: str = ".", absent: str = "error") -> Captioned:
    """COCO and Flickr30k by Karpathy's splits: FILE {"images": [{split, filepath, filename, sentences: [{raw}]}]}."""
    rows = [row for row in read_json(folder / file)["images"] if row["split"] == split]
    pairs = ((f"{images}/{row.get('filepath', '')}/{row['filename']}", _raw(row)) for row in rows)
    return _captioned("image", folder, pairs, absent)


def _raw(row: Mapping[str, Any]) -> list[str]:
    return [sentence["raw"] for sentence in row["sentences"]]


def docci(folder: Path, split: str = "test", absent: str = "error") -> Captioned:
    """DOCCI: docci_descriptions.jsonlines {split, image_file, description}, images/."""
    rows = (row for row in read_lines(folder / "docci_descriptions.jsonlines") if row["split"] == split)
    return _captioned("image", folder, ((f"images/{row['image_file']}", [row["description"]]) for row in rows), absent)


def textcaps(folder: Path, file: str, images: str = "train_images", absent: str = "error") -> Captioned:
    """TextCaps: FILE {"data": [{image_id, caption_str}]}, one entry a caption, IMAGES/ID.jpg of OpenImages."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in read_json(folder / file)["data"]:
        texts[row["image_id"]].append(row["caption_str"])
    return _captioned("image", folder, ((f"{images}/{name}.jpg", some) for name, some in texts.items()), absent)


def vatex(folder: Path, file: str, absent: str = "error") -> Captioned:
    """VATEX: FILE [{videoID, enCap: [...]}], videos/ID.mp4."""
    rows = ((f"videos/{row['videoID']}.mp4", row["enCap"]) for row in read_json(folder / file))
    return _captioned("video", folder, rows, absent)


def msrvtt(folder: Path, file: str, absent: str = "error") -> Captioned:
    """MSR-VTT 1k-A: FILE with columns video_id, sentence, one row a clip; videos/ID.mp4."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in read_table(folder / file):
        texts[row["video_id"]].append(row["sentence"])
    return _captioned("video", folder, ((f"videos/{name}.mp4", some) for name, some in texts.items()), absent)


def youcook2(folder: Path, file: str, subset: str = "validation", absent: str = "error") -> Captioned:
    """YouCook2: FILE {"database": {ID: {subset, annotations: [{id, sentence}]}}}; segments as clips/ID_NUMBER.mp4."""
    found = read_json(folder / file)["database"]
    rows = (
        (f"clips/{name}_{segment['id']}.mp4", [segment["sentence"]])
        for name, video in found.items()
        if video["subset"] == subset
        for segment in video["annotations"]
    )
    return _captioned("video", folder, rows, absent)


def captions(folder: Path, text: str = "text", absent: str = "error") -> Captioned:
    """Any set in the hub's ImageFolder layout: metadata.csv or .jsonl with file_name and the column TEXT."""
    texts: dict[str, list[str]] = defaultdict(list)
    for row in read_metadata(folder, text):
        texts[row["file_name"]].append(row[text])
    return _captioned("image", folder, texts.items(), absent)


def artcap(folder: Path, file: str = "ArtCap.json", absent: str = "error") -> Captioned:
    """ArtCap: FILE {name: [captions]}, ArtCap_Images_Dataset/NAME."""
    rows = ((f"ArtCap_Images_Dataset/{name}", texts) for name, texts in read_json(folder / file).items())
    return _captioned("image", folder, rows, absent)


def parquet_captions(folder: Path, image: str = "image", text: str = "text") -> Captioned:
    """Any set of the hub's whose parquet files, anywhere below, have pictures in a column IMAGE and texts in TEXT.

    A picture is the hub's struct of bytes and path, or a list of such, of which the first is taken; a text may be a
    list of texts. Rows of the same picture are one picture with all their texts.
    """
    texts: dict[bytes, list[str]] = defaultdict(list)
    for row in read_parquet(folder, image, text):
        shown, said = row[image], row[text]
        shown = shown[0] if isinstance(shown, list) and shown else shown
        if not isinstance(shown, dict) or not shown.get("bytes"):
            raise DataError(f"{folder}: column {image} holds no picture's bytes; fetch the set with its media")
        texts[shown["bytes"]] += said if isinstance(said, list) else [said]
    media = [Content(Image(data, name=f"{number}")) for number, data in enumerate(texts)]
    return Captioned("image", media, list(texts.values()))


def recipe1m(
    folder: Path, text: str, partition: str = "test", limit: int | None = None, absent: str = "error"
) -> Captioned:
    """Recipe1M: layer1.json [{id, partition, ingredients: [{text}], instructions: [{text}]}], layer2.json images by id.

    text   "ingredients" or "instructions", one line each
    limit  so many recipes, by hash of their id; the first image of each stands in PARTITION/a/b/c/d/NAME
    """
    images = {row["id"]: row["images"][0]["id"] for row in read_json(folder / "layer2.json") if row["images"]}
    rows = [row for row in read_json(folder / "layer1.json") if row["partition"] == partition and row["id"] in images]
    rows = sorted(rows, key=lambda row: hashlib.blake2b(row["id"].encode(), digest_size=8).digest())[:limit]
    pairs = (
        (
            "/".join([partition, *images[row["id"]][:4], images[row["id"]]]),
            ["\n".join(one["text"] for one in row[text])],
        )
        for row in rows
    )
    return _captioned("image", folder, pairs, absent)


def imagenet(folder: Path, split: str = "val", limit: int | None = None) -> Pool:
    """Classes as folders, SPLIT/SYNSET/*.JPEG: each image asks for another of its class among all the others.

    `limit` takes so many images of each class, by name.
    """
    classes = sorted(path for path in (folder / split).glob("*") if path.is_dir())
    files = [(one.name, path) for one in classes for path in sorted(one.glob("*"))[:limit]]
    if not files:
        raise DataError(f"{folder / split}: has no folder of a class; docs/paper_tables.md has the layout")
    return _same_label([name for name, _ in files], [Content(Image(path)) for _, path in files])


def labelled(folder: Path, absent: str = "error") -> Pool:
    """Instances: metadata.csv with file_name, label and role ("query" or "index"); queries ask for an index image."""
    rows = [(row, present(folder, row["file_name"], absent)) for row in read_metadata(folder, "label")]
    index = [(row, path) for row, path in rows if path and row["role"] == "index"]
    where: dict[str, list[int]] = defaultdict(list)
    for number, (row, _) in enumerate(index):
        where[row["label"]].append(number)
    asked = [(row, path) for row, path in rows if path and row["role"] == "query" and row["label"] in where]
    return Pool(
        [Content(Image(path)) for _, path in asked],
        [Content(Image(path)) for _, path in index],
        [where[row["label"]] for row, _ in asked],
        [row["file_name"] for row, _ in asked],
        absent=sum(path is None for _, path in rows),
    )


def _same_label(labels: Sequence[str], contents: Sequence[Content]) -> Pool:
    """Every content asks for another of its label; one that is alone under its label only stands among the items."""
    where: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        where[label].append(row)
    asked = [row for row, label in enumerate(labels) if len(where[label]) > 1]
    right = [[other for other in where[labels[row]] if other != row] for row in asked]
    return Pool([contents[row] for row in asked], contents, right, [str(row) for row in asked], itself=asked)


def encyclopedic_vqa(folder: Path, file: str, absent: str = "error") -> Pool:
    """Encyclopedic-VQA: FILE with dataset_name, dataset_image_ids, question, answer; images/DATASET/ID.jpg (our form).

    The first image and the question are one query; items are the distinct answers of the file. Annotators' alternatives
    ("a|b") and the members of a list that a multi_answer question asks for ("a&&b") are items each, and right alike.
    """
    rows = read_table(folder / file)
    items: dict[str, int] = {}
    queries, right, units, missing = [], [], [], 0
    for row in rows:
        said = dict.fromkeys(one.strip() for one in re.split(r"\||&&", row["answer"]))
        answers = [items.setdefault(one, len(items)) for one in said if one]
        name = row["dataset_image_ids"].split("|")[0]
        path = present(folder, f"images/{row['dataset_name']}/{name}.jpg", absent)
        missing += path is None
        if path:
            queries.append(Content(Image(path), row["question"]))
            right.append(answers)
            units.append(name)
    return Pool(queries, [Content(text) for text in items], right, units, absent=missing)


def beir_pages(folder: Path, language: str | None = None) -> Pool:
    """ViDoRe V2: parquet files under queries/, corpus/, qrels/ with query-id, query, corpus-id, image, score.

    Pages of a score above 0 are right, and the score is their gain. `language` keeps queries of that column's value.
    """
    import pandas as pd

    def table(name: str) -> pd.DataFrame:
        files = sorted((folder / name).glob("*.parquet"))
        if not files:
            raise DataError(f"{folder / name}: holds no parquet file; docs/paper_tables.md has the layout")
        return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)

    queries, pages, judged = table("queries"), table("corpus"), table("qrels")
    if language is not None:
        queries = queries[queries["language"] == language]
    place = {key: row for row, key in enumerate(pages["corpus-id"])}
    right: dict[Any, dict[int, float]] = defaultdict(dict)
    for query, page, grade in zip(judged["query-id"], judged["corpus-id"], judged["score"], strict=True):
        if grade > 0 and page in place:
            right[query][place[page]] = float(grade)
    asked = [(key, text) for key, text in zip(queries["query-id"], queries["query"], strict=True) if right[key]]
    shown = zip(pages["corpus-id"], pages["image"], strict=True)
    return Pool(
        [Content(text) for _, text in asked],
        [Content(Image(image["bytes"], name=str(image.get("path") or key))) for key, image in shown],
        [list(right[key]) for key, _ in asked],
        [str(key) for key, _ in asked],
        gains=[list(right[key].values()) for key, _ in asked],
    )


def spoken_passages(folder: Path, query: str = "audio", pairs: str = "in_language", absent: str = "error") -> Pool:
    """MSEB's passage retrieval: queries.jsonl {audio, text, asr, locale, passage_id, passage_locale}, passages.jsonl.

    query   "audio", or a transcript: "text" (true) or "asr" (an ASR system's)
    pairs   "in_language", "cross_language" or "all": by whether a query's and its passage's languages are the same
    Every (locale of the query, locale of the passage) is a pool of its own, and a table's figure the mean over them.
    """
    items = list(read_lines(folder / "passages.jsonl"))
    chosen = [
        row
        for row in read_lines(folder / "queries.jsonl")
        if pairs == "all" or _same_language(row) == (pairs == "in_language")
    ]
    files = [present(folder, row["audio"], absent) if query == "audio" else None for row in chosen]
    rows = [(row, file) for row, file in zip(chosen, files, strict=True) if file or query != "audio"]
    tasks = sorted({(row["locale"], row["passage_locale"]) for row, _ in rows})
    stock, groups, where = [], [], {}
    for task in tasks:  # passages of a locale stand in the pool of every locale that asks there
        for row in items:
            if row["locale"] == task[1]:
                where[task, row["id"]] = len(stock)
                stock.append(row)
                groups.append("/".join(task))
    keys = [((row["locale"], row["passage_locale"]), row["passage_id"]) for row, _ in rows]
    return Pool(
        [Content(Audio(file)) if file else Content(row[query]) for row, file in rows],
        [Content("\n".join(filter(None, [row.get("title"), row["text"]]))) for row in stock],
        [[where[key]] if key in where else [] for key in keys],
        [key[1] for key in keys],
        (["/".join(task) for task, _ in keys], groups),
        absent=sum(file is None for file in files) if query == "audio" else 0,
    )


def _same_language(row: Mapping[str, Any]) -> bool:
    return row["locale"].split("_")[0] == row["passage_locale"].split("_")[0]


LAYOUTS: Mapping[str, Callable[..., Captioned | Pool]] = {
    one.__name__: one
    for one in (
        karpathy, docci, textcaps, vatex, msrvtt, youcook2, captions, artcap, parquet_captions, recipe1m, imagenet,
        labelled, encyclopedic_vqa, beir_pages, spoken_passages, mteb_captions, mteb_pairs,
    )
}  # fmt: skip


def _captioned(kind: str, folder: Path, pairs: Any, absent: str) -> Captioned:
    made = [(present(folder, name, absent), list(texts)) for name, texts in pairs]
    there = [(path, texts) for path, texts in made if path]
    if not there:
        raise DataError(f"{folder}: nothing of the split is there; docs/paper_tables.md has the layout")
    part = Image if kind == "image" else lambda path: Video(path, sound=False)
    return Captioned(
        kind, [Content(part(path)) for path, _ in there], [texts for _, texts in there], len(made) - len(there)
    )
