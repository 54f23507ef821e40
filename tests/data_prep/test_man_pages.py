from __future__ import annotations

import gzip

import pytest

from commonspace.errors import DataError
from data_prep.man_pages import read_man_page

_PAGE = r"""'\" t
.\" a comment
.TH ASCII 7 2023 "Linux"
.SH NAME
ascii, iso \- the \fIcharacter\fP set, encoded in \f(CWoctal\fP
.SH SYNOPSIS
.nf
.B #include <none.h>
.fi
.SH DESCRIPTION
ASCII is a 7\-bit code.
.\" not this
It has
.BR isascii (3)
beside it, and \[lq]quotes\[rq] \(em like this.
.PP
.TS
l l.
000	NUL
.TE
A second
.I "paragraph of it"
ends with a backslash \e.
.TP
.B \-x
An option.
.SH BUGS
None.
"""


def write(path, text: str):
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_summary_and_paragraphs_without_markup(tmp_path):
    page = read_man_page(write(tmp_path / "ascii.7.gz", _PAGE))
    assert (page.names, page.summary) == ("ascii, iso", "the character set, encoded in octal")
    assert page.paragraphs == (
        "ASCII is a 7-bit code. It has isascii(3) beside it, and “quotes” — like this.",
        "A second paragraph of it ends with a backslash \\.",
        "-x An option.",
    )


@pytest.mark.parametrize(("name", "heading"), [("BEZEICHNUNG", "BESCHREIBUNG"), ("名前", "説明"), ("ИМЯ", "ОПИСАНИЕ")])
def test_translated_pages_have_translated_headings(tmp_path, name, heading):
    text = f".TH X 1\n.SH {name}\nls \\- etwas auflisten\n.SH {heading}\nMehr dazu.\n"
    page = read_man_page(write(tmp_path / "x.1.gz", text))
    assert page.summary == "etwas auflisten" and page.paragraphs == ("Mehr dazu.",)


def test_the_other_macro_package_is_read(tmp_path):
    text = ".Dd today\n.Sh NAME\n.Nm od\n.Nd dump files\n.Sh DESCRIPTION\nThe tool\n.Nm od\nwrites.\n.Pp\nMore.\n"
    page = read_man_page(write(tmp_path / "od.1.gz", text))
    assert (page.names, page.summary, page.paragraphs) == ("od", "dump files", ("The tool od writes.", "More."))


@pytest.mark.parametrize("text", [".so man3/printf.3\n", "", ".SH NAME\nno summary here\n"])
def test_pages_that_say_nothing_are_none(tmp_path, text):
    assert read_man_page(write(tmp_path / "x.1.gz", text)) is None


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "x.1.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"x\.1\.gz: cannot be read"):
        read_man_page(tmp_path / "x.1.gz")
