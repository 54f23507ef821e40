"""Hydrogen's drum kits: each instrument's recordings, named by the kit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from commonspace.data.sample import Record
from commonspace.errors import DataError
from data_prep.instruments import instrument_name, short_flac
from data_prep.sounds import sound_record, usable_sounds
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "hydrogen"
_ROOT = "usr/share/hydrogen/data/drumkits"
_LAYERS = 3  # recordings of one instrument, struck softly to loudly
# Kits whose instruments carry the maker's name before their own, and words that name no instrument.
_MAKERS = frozenset("pearl sabian vari breaks tama zildjian paiste".split())
_NAMELESS = frozenset({"", "redo super opaco", "instrument", "empty instrument", "drum"})


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`sound` records, at most three recordings of an instrument of a kit."""
    yield from usable_sounds(_records(folders["hydrogen-drumkits"] / _ROOT, drops), drops)


def _records(root: Path, drops: Counter) -> Iterator[Record]:
    for kit in sorted(root.glob("*/drumkit.xml")):
        done: set[str] = set()
        for name, files in instruments(kit):
            caption = " ".join(word for word in instrument_name(name).split() if word not in _MAKERS)
            if caption in _NAMELESS or name.startswith("Sample:"):
                drops["sound that no name describes"] += len(files)
                continue
            drops["further recording of one instrument"] += max(0, len(files) - _LAYERS)
            for file in _spread(files):
                if file in done:
                    continue
                done.add(file)
                try:
                    data = short_flac(kit.parent / Path(file).name)
                except (OSError, DataError):
                    drops["sound that cannot be read"] += 1
                    continue
                yield sound_record(_NAME, (kit.parent.name, file), data, caption, concept(caption), "drums")


def instruments(kit: Path) -> list[tuple[str, list[str]]]:
    """(name, recordings from soft to loud) of a kit's instruments.

    Raises:
        DataError: the file is not a drum kit.
    """
    data = kit.read_bytes()
    try:
        if b"<!ENTITY" in data:
            raise DataError(f"{_NAME}: {kit} declares entities; delete its folder and build again")
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{_NAME}: {kit} is no drum kit ({error}); delete its folder and build again") from error
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    found = []
    for instrument in root.iter("instrument"):
        files = [file.text.strip() for file in instrument.iter("filename") if file.text and file.text.strip()]
        if files:
            found.append(((instrument.findtext("name") or "").strip(), list(dict.fromkeys(files))))
    return found


def _spread(files: list[str]) -> list[str]:
    """At most `_LAYERS` of them, the loudest among these."""
    return files[:: -max(1, len(files) // _LAYERS)][:_LAYERS]


SOURCE = Source(
    name=_NAME,
    packages=(
        Package(
            client="apt",
            name="hydrogen-drumkits",
            version="2017.09.19~dfsg-1",
            filename="hydrogen-drumkits_2017.09.19~dfsg-1_all.deb",
            sha256="6ea3c6df9a67762e2362f946c695e619859126b19fbccf32a2e8f07dfd03b2f4",
            bytes=142675622,
        ),
    ),
    licence="GPL-2 and GPL-2 or later, CC-BY-3.0, CC-BY-SA-3.0, CC0 (by kit)",
    provenance="Drum kits of Hydrogen, 2017, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
