"""Manual pages in roff to plain text: the summary line, and the paragraphs of the description.

Only what those two parts of a page need is understood: fonts, escapes, and the macros that start a paragraph.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

from commonspace.errors import DataError

_DESCRIPTION = frozenset(
    """description beschreibung descripción opis 説明 описание desc überblick wprowadzenie introducción""".split()
)
_BREAKS = frozenset({"PP", "P", "LP", "Pp", "TP", "IP", "HP", "sp", "br", "RS", "RE", "SS", "It", "Bl", "El"})
_ONE_FONT = frozenset({"B", "I", "SM", "SB"})
_TWO_FONTS = frozenset({"BR", "IR", "RB", "RI", "BI", "IB"})
_MDOC_WORDS = frozenset(
    {"Nm", "Fl", "Ar", "Pa", "Xr", "Em", "Sy", "Cm", "Ev", "Va", "Fn", "Li", "Dv", "Ql", "Dq", "Sq"}
)
_SKIPPED = {"TS": "TE", "EX": "EE", "nf": "fi", "EQ": "EN", "Bd": "Ed", "de": ".."}
_GLYPHS = {
    "aq": "'", "dq": '"', "em": "—", "en": "–", "bu": "•", "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "co": "©",
    "rs": "\\", "ti": "~", "ha": "^", "ga": "`", "->": "→", "<=": "≤", ">=": "≥", "mu": "×", "+-": "±", "Fo": "«",
    "Fc": "»",
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[-+]?\d{1,2}|\*(?:\[[^\]]*\]|\(..|.)|[kmFMYVn](?:\[[^\]]*\]|\(..|.)"
    r"|[hvwlLDbXZ]'[^']*'|[&%|^:/,)acdprtu{}]|\"[^\n]*)"
)
_NAMED = re.compile(r"\\(?:\[([^\]]+)\]|\((..))")


@dataclass(frozen=True)
class ManPage:
    """A page's names ("ls, dir"), what it is in one line, and the paragraphs of its description."""

    names: str
    summary: str
    paragraphs: tuple[str, ...]


def read_man_page(path: Path) -> ManPage | None:
    """The page, or None where it has no summary line, or only refers to another page.

    Raises:
        DataError: the file cannot be unpacked.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete its package's folder and build again") from error
    sections = _sections(data.decode("utf-8", "replace"))
    if not sections:
        return None
    names, _, summary = re.sub(r"\s+", " ", " ".join(sections[0][1])).partition(" - ")
    body = next((paragraphs for title, paragraphs in sections[1:] if title.casefold() in _DESCRIPTION), [])
    return ManPage(names.strip(), summary.strip(), tuple(body)) if names.strip() and summary.strip() else None


class _Reader:
    """Collects the sections of a page line by line: (title, paragraphs) of each, in order."""

    def __init__(self) -> None:
        self.sections: list[tuple[str, list[str]]] = []
        self._lines: list[str] = []
        self._skipped_until: str | None = None

    def read(self, line: str) -> None:
        """One line of the source: what a skipped block holds is passed over, a macro obeyed, anything else text."""
        is_macro = line[:1] in (".", "'")
        macro, _, rest = line[1:].strip().partition(" ") if is_macro else ("", "", line)
        if self._skipped_until is not None:
            self._skipped_until = None if self._skipped_until in (macro, line) else self._skipped_until
        elif is_macro:
            self._obey(macro, rest)
        else:
            if not line.strip():
                self.end_paragraph()
            self._lines.append(_plain(line))

    def end_paragraph(self) -> None:
        """What was collected is one paragraph of the section that is open."""
        paragraph = " ".join(" ".join(self._lines).split())
        if paragraph and self.sections:
            self.sections[-1][1].append(paragraph)
        self._lines.clear()

    def _obey(self, macro: str, rest: str) -> None:
        if macro in _BREAKS or macro in _SKIPPED or macro in ("SH", "Sh"):
            self.end_paragraph()
        if macro in ("SH", "Sh"):
            self.sections.append((_plain(rest.replace('"', "")).strip(), []))
        elif macro in _SKIPPED:
            self._skipped_until = _SKIPPED[macro]
        elif macro in _ONE_FONT or macro in _MDOC_WORDS:
            self._lines.append(_plain(" ".join(_arguments(rest))))
        elif macro in _TWO_FONTS:  # alternating, without a space between them
            self._lines.append(_plain("".join(_arguments(rest))))
        elif macro == "Nd":
            self._lines.append("- " + _plain(rest))


def _sections(text: str) -> list[tuple[str, list[str]]]:
    reader = _Reader()
    for line in text.replace("\\\n", "").splitlines():
        reader.read(line)
    reader.end_paragraph()
    return reader.sections


def _arguments(text: str) -> list[str]:
    return [quoted.replace('""', '"') or bare for quoted, bare in re.findall(r'"((?:[^"]|"")*)"|(\S+)', text)]


def _plain(text: str) -> str:
    text = text.replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ").replace("\\0", " ").replace("\\(aq", "'")
    text = _NAMED.sub(lambda match: _glyph(match[1] or match[2]), text)
    return _ESCAPE.sub("", text.replace("\\e", "\x00").replace("\\\\", "\x00")).replace("\\", "").replace("\x00", "\\")


def _glyph(name: str) -> str:
    if re.fullmatch(r"u[0-9A-F]{4,6}", name):
        return chr(int(name[1:], 16))
    return _GLYPHS.get(name, "")
