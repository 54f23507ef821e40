"""The report's markdown as one self-contained page, its pictures inside."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1150px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
table{border-collapse:collapse;font-size:12px;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:#fff}
img{max-width:100%}h2{margin-top:2.5rem;border-bottom:2px solid #0072b2}code{background:#f2f2f2;padding:0 .2em}
"""


def render(text: str, pictures: Mapping[str, bytes]) -> str:
    """The markdown above as one page with its pictures inside; knows headings, tables, lists, pictures, paragraphs."""
    body: list[str] = []
    for block in re.split(r"\n{2,}", text.strip()):
        lines = block.split("\n")
        if lines[0].startswith("#"):
            level = len(lines[0]) - len(lines[0].lstrip("#"))
            body.append(f"<h{level}>{_inline(lines[0].lstrip('# '))}</h{level}>")
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("| "):
            body.append(_html_table(lines))
        elif lines[0].startswith("!["):
            alt, name = re.fullmatch(r"!\[(.*)]\((.*)\.png\)", lines[0]).groups()  # type: ignore[union-attr]
            data = base64.b64encode(pictures[name]).decode()
            body.append(f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">')
        elif lines[0].startswith("- "):
            body.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            body.append(f"<p>{_inline(' '.join(lines))}</p>")
    title = _inline(text.split("\n", 1)[0].lstrip("# "))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def _html_table(lines: Sequence[str]) -> str:
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in cells[0])
    rows = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in cells[2:])
    return f"<table><tr>{head}</tr>{rows}</table>"


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escaped)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
