"""Contents made of pages: so many parts or tokens, the page that is asked for in them, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content, Document, Image, Text
from commonspace.errors import DataError
from commonspace.evaluation.long_inputs import TitledPage, long_content, read_titled
from commonspace.evaluation.long_run import size_of
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.tiny import tiny_embedder


def page(name: str, figures: int = 1) -> TitledPage:
    """Texts of 20 tokens with figures between them."""
    parts: list[Text | Image] = [Text(f"a red fox {name} " + "snow " * 16)]
    for number in range(figures):
        pixels = np.random.default_rng([*name.encode(), number]).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        parts += [Image(picture_bytes(pixels)), Text(f"blue bird {name} " + "snow " * 17)]
    return TitledPage(name, f"made:{name}", "made", Content(f"title {name}"), tuple(parts))


def flat(content: Content) -> list[Text | Image]:
    return [inner for part in content.parts if isinstance(part, Document) for inner in part.parts]


OTHERS = [page(f"o{number}", number % 3) for number in range(30)]


@pytest.mark.parametrize("parts", [1, 2, 5, 16, 40])
def test_parts(parts: int) -> None:
    own = page("own")
    made = long_content(own, OTHERS, size_of(tiny_embedder()), parts=parts)
    assert made.parts == parts == len(flat(made.content))
    assert own.parts[0] in flat(made.content)
    assert [p for p in flat(made.content) if p in own.parts] == list(own.parts[: min(parts, 3)])


@pytest.mark.parametrize("tokens", [30, 60, 100])
def test_tokens_are_those_of_the_processor(tokens: int) -> None:
    embedder = tiny_embedder()
    made = long_content(page("own"), OTHERS, size_of(embedder), tokens=tokens)
    embedder.processor = embedder.processor.with_numbers(max_images=64)
    assert made.tokens == embedder.processor(made.content).tokens <= tokens
    assert made.tokens > tokens - 24 and page("own").parts[0] in flat(made.content)


def test_a_page_stands_anywhere_among_others_and_always_in_the_same_place() -> None:
    size, places = size_of(tiny_embedder()), []
    for number in range(12):
        own = page(f"own{number}")
        made = [long_content(own, OTHERS, size, parts=24).content for _ in range(2)]
        assert flat(made[0]) == flat(made[1])
        places.append(next(n for n, part in enumerate(made[0].parts) if own.parts[0] in part.parts))
    assert len(set(places)) > 4


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match="own: not even its first part fits into 20 tokens"):
        long_content(page("own"), OTHERS, size_of(tiny_embedder()), tokens=20)


def test_pages_of_the_sources_asked_for(tmp_path: Path) -> None:
    documents = [
        record(f"d{n}", "document", f"p{n % 4}", Content(f"title {n}"), ("en", Content(Document(f"text {n}"))))
        for n in range(6)
    ]
    write(tmp_path, "document", documents, "dev")
    pages = read_titled(tmp_path, "dev", ("made",))
    assert len({one.concept for one in pages}) == len(pages) == 4
    assert read_titled(tmp_path, "dev", ("made",), 2) == pages[:2]
    with pytest.raises(DataError, match="0 pages of gimp in dev"):
        read_titled(tmp_path, "dev", ("gimp",))
    with pytest.raises(DataError, match="no heldout split"):
        read_titled(tmp_path, "heldout", ("made",))
