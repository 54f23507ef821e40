"""Stellarium's photos of deep-sky objects and its drawings of constellations: for zero-shot evaluation only.

What an object is comes from OpenNGC. Sky cultures under a licence without derivatives or commercial use are left out.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.pictures import small_picture
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "stellarium"
_ROOT = "usr/share/stellarium"
_TYPES = {
    "Association of stars": "association of stars",
    "Open Cluster": "open cluster",
    "Globular Cluster": "globular cluster",
    "Star cluster + Nebula": "star cluster with nebula",
    "Galaxy": "galaxy",
    "Galaxy Pair": "pair of galaxies",
    "Galaxy Triplet": "triplet of galaxies",
    "Group of galaxies": "group of galaxies",
    "Planetary Nebula": "planetary nebula",
    "HII Ionized region": "emission nebula",
    "Emission Nebula": "emission nebula",
    "Dark Nebula": "dark nebula",
    "Nebula": "nebula",
    "Reflection Nebula": "reflection nebula",
    "Supernova remnant": "supernova remnant",
}
# m17.png, n7000.png, ic10.png; a photographer or survey may follow ("m1dumont", "n185-dss").
_FILE = re.compile(r"(m|n|ic)(\d+)(?:[a-z]*|-[a-z]\w*)\.png")
_CATALOGUES = {"n": "NGC", "ic": "IC"}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`astronomy` records, photo -> kind and names, and `constellation` records, drawing -> name."""
    root = folders["stellarium-data"] / _ROOT
    yield from _objects(root, _catalogue(folders["pyongc"] / "pyongc/ongc.db"), drops)
    for culture in sorted(path for path in (root / "skycultures").iterdir() if path.is_dir()):
        yield from _constellations(culture, drops)


def _catalogue(path: Path) -> dict[str, tuple[str, str, str]]:
    """{"NGC6618" or "M017": (kind, its name and number as people write them, common name or "")}."""
    columns = "select o.name, t.typedesc, o.messier, o.commonnames from objects o join objTypes t on o.type = t.type"
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        rows = connection.execute(columns).fetchall()
        connection.close()
    except sqlite3.Error as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); fetch its package again") from error
    found = {}
    for name, kind, messier, common in rows:
        number = f"Messier {int(messier)}" if messier else re.sub(r"^(NGC|IC)0*", r"\1 ", name)
        entry = (kind, number, (common or "").split(",")[0])
        found[name] = entry
        if messier:
            found[f"M{messier}"] = entry
    return found


def _objects(root: Path, catalogue: Mapping[str, tuple[str, str, str]], drops: Counter) -> Iterator[Record]:
    folder = root / "nebulae/default"
    for tile in _tiles(folder / "textures.json"):
        file = tile["imageUrl"]
        match = _FILE.fullmatch(file)
        known = catalogue.get(_code(match)) if match else None
        if known is None or known[0] not in _TYPES:
            drops["photo whose object or kind the catalogue does not name"] += 1
            continue
        kind, number, common = _TYPES[known[0]], known[1], known[2]
        picture = _picture(folder / file, f"{_NAME}/{file}", drops)
        if picture is None:
            continue
        names = ", ".join(part for part in (common, number) if part)
        yield Record(
            key=record_key(_NAME, file.removesuffix(".png")),
            task="astronomy",
            source=_NAME,
            concept=concept(f"{kind} {number}"),
            queries=(Variant(Content(picture)),),
            positives=(Variant(Content(f"{names}: {kind}"), "en"),),
            extra={"kind": kind, "object": number, "credit": _credit(tile)},
        )


def _code(match: re.Match[str]) -> str:
    letter, digits = match[1], int(match[2])
    return f"M{digits:03d}" if letter == "m" else f"{_CATALOGUES[letter]}{digits:04d}"


def _tiles(path: Path) -> list[dict[str, Any]]:
    """The photos that the list names, once each. It writes numbers as "-.5", which JSON does not allow."""
    try:
        text = re.sub(r"(?<=[\[,\s:])(-?)\.(?=\d)", r"\g<1>0.", path.read_text(encoding="utf-8"))
        tiles = json.loads(text)["subTiles"]
        return list({tile["imageUrl"]: tile for tile in tiles}.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); fetch its package again") from error


def _credit(tile: Mapping[str, Any]) -> str:
    credits = tile.get("imageCredits") or {}
    return str(credits.get("short") or credits.get("Short") or "")


def _constellations(culture: Path, drops: Counter) -> Iterator[Record]:
    information = (culture / "info.ini").read_text(encoding="utf-8-sig", errors="replace")
    licence, name = (_setting(information, key) for key in ("license", "name"))
    art, names = culture / "constellationsart.fab", culture / "constellation_names.eng.fab"
    entries = _fields(art) if art.is_file() else []
    if not licence or re.search(r"\bN[CD]\b", licence):
        drops["constellation under no licence, or one without derivatives or commerce"] += len(entries)
        return
    titles = {fields[0]: title for fields, title in _titled(names)}
    for short, file, *_ in entries:
        picture = _picture(culture / file, f"{_NAME}/{culture.name}/{file}", drops) if short in titles else None
        if picture is None:
            drops["constellation without a name or picture"] += 1
            continue
        yield Record(
            key=record_key(_NAME, "constellation", culture.name, short),
            task="constellation",
            source=_NAME,
            concept=concept(titles[short]),
            queries=(Variant(Content(picture)),),
            positives=(Variant(Content(titles[short]), "en"),),
            extra={"culture": name, "licence": licence},
        )


def _setting(text: str, key: str) -> str:
    match = re.search(rf"^{key}[ \t]*=[ \t]*(\S.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _fields(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#") and len(line.split()) > 1]


def _titled(path: Path) -> Iterator[tuple[list[str], str]]:
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        match = re.search(r'_\("([^"]+)"', line)
        if match and not line.startswith("#"):
            yield line.split(), match[1]


def _picture(path: Path, name: str, drops: Counter) -> Image | None:
    try:
        return small_picture(path, name)
    except (OSError, DataError):
        drops["picture that cannot be read"] += 1
        return None


SOURCE = Source(
    name=_NAME,
    packages=(
        Package(
            client="apt",
            name="stellarium-data",
            version="0.22.2-1",
            filename="stellarium-data_0.22.2-1_all.deb",
            sha256="45aaebf39a814acbd6dcccea058c2f5651bcb5635599da03a215feeb51f4d5a5",
            bytes=246289432,
        ),
        Package(
            client="pip",
            name="pyongc",
            version="1.2.2",
            filename="pyongc-1.2.2-py3-none-any.whl",
            sha256="d740581ce5e7317a51fc31bec19bb8562bf358c399551b5dfe73a752fa490bf2",
            bytes=2351507,
        ),
    ),
    licence="GPL-2 or later (photos credited one by one), GPL-2 or CC-BY-SA (drawings), CC-BY-SA-4.0 (OpenNGC)",
    provenance="Stellarium 0.22.2 as packed by Debian; OpenNGC out of pyongc 1.2.2",
    tiers=frozenset({"full", "mini_astronomy"}),
    role="zero_shot",
    records=records,
)
