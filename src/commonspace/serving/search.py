"""`commonspace index` and `commonspace search`: vectors to a folder that answers, and questions to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from commonspace.content import Content
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.serving.entries import content_of_file, kind_of_file
from commonspace.serving.index import VectorIndex, build_index

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from commonspace.models.embedder import Embedder


def index(config: DictConfig) -> None:
    """Write the index `output` of the vectors file `vectors`."""
    count = build_index(Path(config.vectors), Path(config.output))
    print(f"{config.output}: {count} vectors")


def main(config: DictConfig) -> None:
    """Print the `k` nearest entries of `index` to each of `queries`: one line each, cosine and key.

    What `on_limit` cuts off a query is said on stderr. Raises DataError where the index was made by another model or
    has another size than this one gives.
    """
    from commonspace.models.device import best_device
    from commonspace.models.embedder import Embedder, truncate

    contents = [query_content(word) for word in config.queries]
    folder, opened = Path(config.embedder), VectorIndex.open(Path(config.index))
    check_model(opened, Path(config.index), folder)
    model = Embedder.load(folder, on_limit=config.on_limit).to(best_device())
    task, role = config.prefix.task, config.prefix.role or ("query" if config.prefix.task else None)
    size = _size(opened, Path(config.index), model)
    pieces = [model.processor(content, task=task, role=role) for content in contents]
    for word, query in zip(config.queries, pieces, strict=True):
        for note in query.truncated:
            print(f"{word:.40}: {note}", file=sys.stderr)
    query_QE = truncate(model.embed_pieces(pieces), size).numpy()
    for word, answers in zip(config.queries, opened.search(query_QE, config.k, exact=config.exact), strict=True):
        print(word)
        for found in answers:
            print(f"{found.score:.4f}\t{found.key}")


def query_content(word: str) -> Content:
    """A query as a content: a media or text file where there is one of that name, else the words themselves.

    Raises ContentError for one word that ends like a file and is none: it was meant to be one.
    """
    if not word.strip():
        raise ContentError("a query is empty; write what to look for, or a file")
    path = Path(word)
    try:
        if path.is_file():
            return content_of_file(path)
    except OSError:  # too long for a file's name
        return Content(word)
    if kind_of_file(path) and len(word.split()) == 1:
        raise ContentError(f"{word}: there is no such file; check the path, or ask in more words than its name")
    return Content(word)


def check_model(opened: VectorIndex, where: Path, folder: Path) -> None:
    """DataError where an index says that another model made its vectors; one that says nothing is believed."""
    from commonspace.models.folder import folder_fingerprint

    made_by = opened.about.get("model")
    if made_by is not None and made_by != folder_fingerprint(folder):
        raise DataError(
            f"{where}: its vectors were made by another model than {folder}, and one model's vectors say nothing about "
            "another's; search with that model, or embed and index again with this one"
        )


def _size(opened: VectorIndex, where: Path, model: Embedder) -> int:
    if opened.size > model.embedding_size:
        raise ConfigError(
            f"{where}: has vectors of {opened.size} and the model gives {model.embedding_size}; "
            "search with the model that made them, or embed and index again with this one"
        )
    return opened.size
