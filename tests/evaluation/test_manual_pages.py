"""Manual pages as one content: what is taken out, what finds what, and differences in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content, Document, Image, Text
from commonspace.errors import DataError
from commonspace.evaluation.manual_pages import ManualPage, asked_of, evaluate_pages, form_of, read_pages
from commonspace.evaluation.results import Scored
from tests.evaluation.made import HashModel, picture, record, write

SCORED = Scored("made", "model")


class Words(HashModel):
    """A bag of the words of a content; a picture says the words it was made of."""

    def embed(self, contents, **options) -> np.ndarray:
        words = HashModel(lambda content: content.parts[0].text, width=256)
        rows = []
        for content in contents:
            said = [word for part in _flat(content) for word in _said(part)]
            rows.append(words.embed([Content(word) for word in said]).sum(0))
        return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


def _flat(content: Content) -> list:
    return [inner for part in content.parts for inner in (part.parts if isinstance(part, Document) else [part])]


def _said(part: Text | Image) -> list[str]:
    text = part.text if isinstance(part, Text) else part.read_bytes().decode("latin1").split(" of ")[1]
    return text.split()


def caption(page: int, number: int) -> str:
    return f"shown{page}{number} told{page}{number} here"


def pages_of(folder: Path, figures: int = 3) -> Path:
    """Eight pages; a figure shows one word of its caption and the text tells another."""
    documents, captions = [], []
    for page in range(8):
        parts: list[str | Image] = ["about this page"]
        for number in range(figures):
            drawn = picture(f"shown{page}{number}")
            captions.append(
                record(
                    f"c{page}-{number}",
                    "image_caption",
                    f"p{page}",
                    Content(drawn),
                    ("en", Content(caption(page, number))),
                )
            )
            parts += [drawn, f"{caption(page, number)}\nit says told{page}{number} in the text"]
        whole = Content(Document(*parts))
        documents.append(record(f"d{page}", "document", f"p{page}", Content(f"title {page}"), ("en", whole)))
    write(folder, "document", documents)
    write(folder, "image_caption", captions)
    half = Content(Document(picture("shown00"), f"{caption(0, 0)}\nonly here"))
    write(
        folder,
        "document_part",
        [record("h0", "document_part", "p0", half, ("en", Content(Document(picture("shown01"), "x"))))],
    )
    return folder


def test_pages_are_read_from_halves_where_there_are_some(tmp_path: Path) -> None:
    pages = read_pages(pages_of(tmp_path), "heldout")
    assert [page.name for page in pages] == [f"p{n}" for n in range(8)]
    assert pages[0].captions == (caption(0, 0), caption(0, 1)), "the third figure stands on neither half"
    assert pages[3].captions == tuple(caption(3, n) for n in range(3))
    assert [type(part) for part in pages[0].parts] == [Image, Text, Image, Text]


def test_captions_are_taken_out_and_what_a_cut_left_of_one() -> None:
    page = ManualPage(
        "p", "made", (Text("Before"), Text("The  RED fox\nmore"), Text("text\nThe red")), ("The red fox",)
    )
    assert [part.text for part in page.without(page.captions)] == ["Before", "more", "text"]
    assert [part.text for part in page.without([])] == [part.text for part in page.parts]
    alone = ManualPage("p", "made", (picture("a"), Text("The red fox")), ("The red fox",))
    assert [type(part) for part in alone.without(alone.captions)] == [Image]


def test_forms() -> None:
    parts = (Text("one"), picture("a"), Text("two"))
    kinds = {form: [type(part) for part in form_of(parts, form).parts[0].parts] for form in ("page", "text", "images")}
    assert kinds == {"page": [Text, Image, Text], "text": [Text, Text], "images": [Image]}


def test_captions_that_give_themselves_away_ask_nothing() -> None:
    first = ManualPage("a", "made", (Text("same"), Text("own\nas in: told"), Text("told")), ("same", "own", "told"))
    second = ManualPage("b", "made", (Text("Same"),), ("Same",))
    assert asked_of([first, second], 0) == ["own"]


def test_the_page_is_compared_in_pairs_with_its_text_and_images(tmp_path: Path) -> None:
    pages = read_pages(pages_of(tmp_path), "heldout")
    done, found = evaluate_pages(Words(lambda content: ""), pages, SCORED, "heldout", draws=200)
    rows = {(row.task, row.direction, row.suite): row for row in done.rows if row.metric == "MRR@10"}
    asked = rows["manual_page", "page->captions", "heldout"]
    assert (asked.queries, asked.pool) == (7, 8), "a page of two figures is in the pool and does not ask"
    assert rows["manual_page", "caption->page", "heldout_every_query"].queries == 21
    assert rows["manual_page", "caption->page", "heldout"].queries == 7
    assert [(one.direction, one.baseline) for one in found[:4]] == [
        (way, words) for way in ("page->captions", "caption->page") for words in ("its text alone", "its images alone")
    ]
    for one in found:
        form = {"its text alone": "text", "its images alone": "images"}[one.baseline]
        table = done.ranks[(done.ranks["direction"] == one.direction)]
        means = [table[table["task"] == f"manual_{kind}"][one.metric].mean() for kind in ("page", form)]
        assert one.difference.value == pytest.approx(means[0] - means[1]) and one.difference.units == 7
        assert one.p_holm is not None and one.p_holm >= one.difference.p


def test_a_caption_does_not_find_itself_on_its_page(tmp_path: Path) -> None:
    """A model that knows whole captions only: its page lacks the caption, so it is no nearer than any other."""
    lines = HashModel(lambda content: "", width=64)

    def embed(contents, **options) -> np.ndarray:
        names = HashModel(lambda content: content.parts[0].text, width=512)
        own = [
            {line for part in _flat(c) if isinstance(part, Text) for line in part.text.split("\n") if "here" in line}
            for c in contents
        ]
        return np.array([names.embed([Content(line) for line in sorted(some | {"all"})]).sum(0) for some in own])

    lines.embed = embed
    done, _ = evaluate_pages(lines, read_pages(pages_of(tmp_path), "heldout"), SCORED, "heldout", draws=50)
    ways = done.ranks[done.ranks["task"] == "manual_text"]
    assert ways[ways["direction"] == "caption->page"]["rank"].mean() > 3


def test_others_are_in_the_pool_and_ask_nothing(tmp_path: Path) -> None:
    pages = read_pages(pages_of(tmp_path), "heldout")
    done, _ = evaluate_pages(Words(lambda content: ""), pages[:4], SCORED, "heldout", others=pages[4:], draws=50)
    assert set(done.ranks["concept"]) == {"p1", "p2", "p3"} and set(done.ranks["pool"]) == {8}


def test_no_page_with_figures_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 8 pages has 4 figures"):
        evaluate_pages(HashModel(str), read_pages(pages_of(tmp_path), "heldout"), SCORED, "heldout", least=4)
    with pytest.raises(DataError, match="no dev split"):
        read_pages(tmp_path, "dev")
