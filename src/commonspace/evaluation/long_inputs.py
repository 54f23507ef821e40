"""Long and highly interleaved contents, made of manual pages: one page that is asked for among others that are not.

Content i holds page i of the split that is scored and, around it, pages of training in an order of its own, as many as
give the number of parts or tokens wanted. The title of page i asks for content i among those of all pages. Pools,
queries and answers are so the same at every length: only what stands around the page differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commonspace.content import Content, Document, Image, Text
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from commonspace.models.embedder import Embedder

Size = Callable[[Text | Image], int]  # tokens of a part
_AROUND_ALL, _AROUND_PAGE = 2, 2  # special tokens around a content, marks around a document


@dataclass(frozen=True)
class TitledPage:
    """A manual page, its parts in reading order, and the title that asks for it."""

    key: str
    concept: str
    source: str
    title: Content
    parts: tuple[Text | Image, ...]


@dataclass(frozen=True)
class LongContent:
    """A content of several pages: how many parts and tokens it has before any limit."""

    content: Content
    parts: int
    tokens: int


def check_reads_pages(model: Embedder, folder: Path) -> None:
    """ConfigError for a model that cannot take pages as they are laid out here, before anything is embedded."""
    if model.backbone.own_towers:
        raise ConfigError(f"{folder}: a {model.backbone.name} lays pages out by itself; this compares ways of ours")
    if "image" not in model.backbone.towers():
        raise ConfigError(f"{folder}: has no image tower, and pages hold figures; take a model that has one")


def read_titled(root: Path, split: str, sources: Sequence[str], most: int | None = None) -> list[TitledPage]:
    """Pages of the `document` shards of some sources, by hash of their keys, at most `most`; one page a concept."""
    if not (root / "document" / f"{split}.json").exists():
        raise DataError(f"{root / 'document'}: no {split} split; run `commonspace data build` first")
    pages: dict[str, TitledPage] = {}
    for record in ShardReader(root / "document", split):
        document = record.positives[0].content.parts[0]
        if record.source in sources and isinstance(document, Document):
            parts = tuple(part for part in document.parts if isinstance(part, (Text, Image)))
            page = TitledPage(record.key, record.concept, record.source, record.queries[0].content, parts)
            pages.setdefault(page.concept, page)
    if len(pages) < 2:
        raise DataError(
            f"{root / 'document'}: {len(pages)} pages of {', '.join(sources)} in {split}; at least 2 are asked"
        )
    return sorted(pages.values(), key=lambda page: _spread(page.key))[:most]


def _spread(*words: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "little")


def long_content(
    page: TitledPage, others: Sequence[TitledPage], size: Size, *, parts: int | None = None, tokens: int | None = None
) -> LongContent:
    """The page among `others`, at most so many `parts` or `tokens` in all: whole parts, of each page its first ones.

    Where it stands among them, and which they are, is decided by its key.
    """
    room = _Room(size, parts, tokens)
    own = room.take(page)
    kept: list[Document] = []
    for other in sorted(others, key=lambda one: _spread(page.key, one.key)):
        if room.is_full:
            break
        if taken := room.take(other):
            kept.append(taken)
    if own is None:
        raise DataError(
            f"{page.key}: not even its first part fits into {parts or tokens} {'parts' if parts else 'tokens'}"
        )
    kept.insert(_spread(page.key, "place") % (len(kept) + 1), own)
    return LongContent(Content(*kept), room.parts, room.tokens)


class _Room:
    """Counts what pages take of a number of parts or tokens, and closes once something did not fit."""

    def __init__(self, size: Size, most_parts: int | None, most_tokens: int | None) -> None:
        self.size, self.most_parts, self.most_tokens = size, most_parts, most_tokens
        self.parts, self.tokens, self.is_full = 0, _AROUND_ALL, False

    def take(self, page: TitledPage) -> Document | None:
        """The first parts of a page that fit."""
        taken: list[Text | Image] = []
        for part in page.parts:
            tokens = self.size(part) + (0 if taken else _AROUND_PAGE)
            if (self.most_parts is not None and self.parts == self.most_parts) or (
                self.most_tokens is not None and self.tokens + tokens > self.most_tokens
            ):
                self.is_full = True
                break
            taken.append(part)
            self.parts, self.tokens = self.parts + 1, self.tokens + tokens
        return Document(*taken) if taken else None
