"""The model card of an exported folder, as the hub reads it: front matter, data and licences, results, limits, use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from commonspace.errors import DataError
from commonspace.evaluation.results import Row, read_rows
from commonspace.evaluation.tables import Rows, figure, markdown
from commonspace.models.embedder import Embedder

METRIC, SUBSET = "MRR@10", "no_near_duplicates"  # of the table of results
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)

_USE = """## How to use it

```python
from commonspace import Audio, Content, Embedder, Image

model = Embedder.load("FOLDER")
vectors = model.embed([Content("a red fox"), Content(Image("fox.jpg")), Content("its bark:", Audio("bark.ogg"))])
```
"""
_USE_SENTENCE_TRANSFORMERS = """
With sentence-transformers, contents are strings, PIL images, arrays, mappings of modalities or chat messages:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER"TRUST)
model.encode(["a red fox", {"text": "its bark:", "audio": "bark.ogg"}])
model.encode_query("red fox"), model.encode_document("A fox stands in the snow.")
model.encode("a red fox", truncate_dim=DIM, normalize_embeddings=True)
```
"""


@dataclass(frozen=True)
class Results:
    """Rows of one evaluated model, and the file that they stand in (for the reader, a name alone)."""

    rows: tuple[Row, ...] = ()
    name: str = ""

    @classmethod
    def read(cls, path: Path | None) -> Results:
        """Of a file of result rows; none for None. Raises DataError where it is missing or of several models."""
        if path is None:
            return cls()
        if not path.is_file():
            raise DataError(f"results: {path} is not there; evaluate the model, or leave results out")
        rows = read_rows(path)
        if len(names := {row.model for row in rows}) != 1:
            raise DataError(f"results: {path} has rows of {sorted(names)}; a card is of one model")
        return cls(tuple(rows), path.name)

    @property
    def headlines(self) -> list[Row]:
        """One row a task and direction: full size, all languages and sources, near-duplicates of training left out."""
        cells = Rows.of(self.rows).headline(METRIC, SUBSET)
        return [row for _, cell in sorted(cells.items()) for row in cell.values()]


def write_card(
    embedder: Embedder, name: str, card: str, results: Results, *, sentence_transformers: str | None = None
) -> str:
    """The whole card: `card` is the model folder's own (data, licences, parts), kept word for word below the title.

    `sentence_transformers` is None for a folder that it does not read, else "code" (one with code of ours in it) or
    "plain".
    """
    body = _FRONT.sub("", card).strip()
    title, _, rest = body.partition("\n") if body.startswith("# ") else (f"# {name}", "", body)
    parts = [title, rest.strip(), _results(results), _limits(embedder), _use(embedder, sentence_transformers)]
    text = "\n\n".join(part.strip() for part in parts if part.strip())
    return f"---\n{_front_matter(embedder, name, results, sentence_transformers)}\n---\n\n{text}\n"


def _front_matter(embedder: Embedder, name: str, results: Results, sentence_transformers: str | None) -> str:
    towers = set(embedder.backbone.towers())
    tags = ["embeddings", "multimodal", "feature-extraction", "matryoshka"] if towers else ["embeddings", "matryoshka"]
    data = ModelCardData(
        license="other",  # of weights trained on many licences; the card has the table
        license_name="see-the-card",
        library_name="sentence-transformers" if sentence_transformers else "commonspace",
        pipeline_tag="feature-extraction",
        tags=[*tags, "commonspace"],
        model_name=name,
        eval_results=[_evaluated(row) for row in results.headlines] or None,
    )
    return data.to_yaml().strip()


def _evaluated(row: Row) -> EvalResult:
    return EvalResult(
        task_type="retrieval",
        dataset_type=f"commonspace-{row.suite}",
        dataset_name=f"{row.task} {row.direction}",
        dataset_config=f"{row.task} {row.direction}",  # results of one configuration would become one entry
        dataset_split=row.split,
        metric_type="mrr_at_10",
        metric_name=f"{row.metric} ({row.queries} queries, pool {row.pool:.0f})",
        metric_value=row.value,
    )


def _results(results: Results) -> str:
    found = results.headlines
    if not found:
        return "## Results\n\nNone were given when this folder was written."
    lines = [[f"{row.task} {row.direction}", str(row.queries), f"{row.pool:.0f}", figure(row)] for row in found]
    table = markdown(["task", "queries", "pool", METRIC], lines)
    row = found[0]
    made = (
        f"Held-out concepts of the model's own data, near-duplicates of training left out; brackets are 95 % intervals \
over concepts. Rows of `{results.name}`, made by `{row.command}` at commit {row.commit}."
    )
    return f"## Results\n\n{table}\n{made}"


def _limits(embedder: Embedder) -> str:
    """What contents may be at most, by the model's own numbers."""
    numbers, towers = embedder.processor.preprocessing, set(embedder.backbone.towers())
    lines = [f"- A content has at most {numbers.max_tokens} tokens, one text {numbers.max_text_tokens}."]
    if "image" in towers:
        lines.append(f"- At most {numbers.max_images} images and {numbers.max_pages} pages of PDFs.")
        lines.append(
            f"- A video is at most {numbers.max_video_seconds:g} s long; of it up to {numbers.video_max_frames} frames "
            "are seen."
        )
    if "audio" in towers:
        lines.append(f"- A sound is at most {numbers.max_audio_seconds:g} s long.")
    lines += [f"- It has no {kind} tower: it refuses such parts." for kind in ("image", "audio") if kind not in towers]
    sizes = ", ".join(map(str, embedder.matryoshka_sizes))
    lines.append(f"- Vectors of {embedder.embedding_size} numbers; prefixes of {sizes} were trained for.")
    lines.append("- What it was not evaluated on is not known: the tables above name what it was.")
    return "## Limits\n\n" + "\n".join(lines)


def _use(embedder: Embedder, sentence_transformers: str | None) -> str:
    if sentence_transformers is None:
        return _USE
    trust = ", trust_remote_code=True" if sentence_transformers == "code" else ""
    text = _USE_SENTENCE_TRANSFORMERS.replace("TRUST", trust).replace("DIM", str(embedder.matryoshka_sizes[0]))
    return _USE + text if sentence_transformers == "code" else "## How to use it\n" + text
