"""Lines and files as contents, and what is said of those that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commonspace.content import Audio, Document, Image, Text, Video
from commonspace.errors import ContentError, DataError
from commonspace.serving.entries import Entry, content_of_file, read_files, read_lines


def lines(folder: Path, text: str) -> list[Entry]:
    (folder / "contents.jsonl").write_text(text, encoding="utf-8")
    return read_lines(folder / "contents.jsonl")


def test_lines_are_contents_with_media_beside_the_file(tmp_path: Path) -> None:
    given = '"a red fox"\n\n["a plate", {"image": "p.png"}]\n{"document": ["one", {"image": "q.png"}]}\n'
    first, second, third = (entry.content for entry in lines(tmp_path, given))
    assert first.parts == (Text("a red fox"),)
    assert isinstance(second.parts[1], Image) and second.parts[1].source == tmp_path / "p.png"
    assert isinstance(third.parts[0], Document) and third.parts[0].parts[1].source == tmp_path / "q.png"


def test_a_line_has_its_own_key_or_its_number(tmp_path: Path) -> None:
    entries = lines(tmp_path, '"a"\n\n{"key": "fox 1", "content": ["b", {"image": "p.png"}]}\n{"text": "c"}\n')
    assert [(entry.line, entry.key) for entry in entries] == [(1, "1"), (3, "fox 1"), (4, "4")]
    assert entries[1].content.modalities == {"text", "image"}


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    (only,) = lines(tmp_path, '"one\u2028two\x85three"\n')
    assert only.content.parts == (Text("one\u2028two\x85three"),)


@pytest.mark.parametrize(
    "text, number, error, message",
    [
        ('"fine"\n{"image": 3}\n', 2, ContentError, "contents.jsonl, line 2: "),
        ('"fine"\n\n{"image": \n', 3, DataError, "contents.jsonl, line 3: not JSON"),
        ('"fine"\n{"key": 3, "content": "a"}\n', 2, ContentError, "contents.jsonl, line 2: "),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path, text, number, error, message) -> None:
    first, bad = lines(tmp_path, text)
    assert first.content is not None and first.error is None
    assert bad.line == number and bad.content is None and type(bad.error) is error and message in str(bad.error)


@pytest.mark.parametrize(
    "text, message",
    [
        ("\n\n", "contents.jsonl: holds no content"),
        ('{"key": "2", "content": "a"}\n"b"\n', "line 2: the key '2' is that of .*line 1 too"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        lines(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent.jsonl: cannot be read"):
        read_lines(tmp_path / "absent.jsonl")


def test_files_are_told_apart_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("\n a red fox \n")
    kinds = {"a.PNG": Image, "b.ogg": Audio, "c.webm": Video, "page.md": Text}
    for name, kind in kinds.items():
        (part,) = content_of_file(tmp_path / name).parts
        assert isinstance(part, kind)
    assert part == Text("a red fox")


@pytest.mark.parametrize(
    "name, data, message",
    [("a.xyz", b"a", "unknown kind"), ("a.txt", b" \n", "is empty"), ("b.txt", b"\xff\xfe", "cannot be read as UTF-8")],
)
def test_a_file_that_is_no_content_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    entry, missing = read_files([str(tmp_path / name), str(tmp_path / "absent.md")])
    assert entry.content is None and name in str(entry.error) and message in str(entry.error)
    assert missing.line == 2 and "absent.md: cannot be read" in str(missing.error)
    with pytest.raises(DataError, match="is that of"):
        read_files(["x.png", "x.png"])


def test_a_stamp_changes_with_the_line_and_with_its_media(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    given = '{"document": ["one", {"image": "p.png"}]}\n'
    (before,) = lines(tmp_path, given)
    absent = before.stamp()
    picture.write_bytes(b"1")
    first = before.stamp()
    os.utime(picture, ns=(1, 1))
    assert len({absent, first, before.stamp(), lines(tmp_path, given.replace("one", "two"))[0].stamp()}) == 4
    assert lines(tmp_path, given)[0].stamp() == before.stamp()


@pytest.mark.parametrize("medium", ['{"pdf": "p"}', '{"image": "p"}', '"text"'])
def test_a_stamp_looks_into_documents(tmp_path: Path, medium: str) -> None:
    (only,) = lines(tmp_path, f'[{{"document": ["one", {medium}]}}]\n')
    stamps = [only.stamp()]
    for data in (b"1", b"another"):
        (tmp_path / "p").write_bytes(data)
        stamps.append(only.stamp())
    assert len(set(stamps)) == (1 if medium == '"text"' else 3)


def test_a_stamp_changes_with_the_text_of_a_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"

    def stamp(text: str) -> str:
        page.write_text(text)
        os.utime(page, ns=(1, 1))  # of a file written within one tick of the clock nothing else may tell
        return read_files([str(page)])[0].stamp()

    assert stamp("a red fox") != stamp("a sly fox") and stamp("a red fox") == stamp("a red fox\n")
