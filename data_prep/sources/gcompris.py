"""GCompris: pictures with words in many languages, boards that explain animals and monuments, sounds, paintings, fish.

Paintings and fish are for zero-shot evaluation only. The 37 word lists name the drawings of the `lang` activity.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.activities import Activity
from data_prep.gcompris_sounds import activity_sound, effect_records
from data_prep.keys import record_key
from data_prep.languages import KNOWN_LANGUAGES
from data_prep.paintings import assemble_painting
from data_prep.pictures import encode_picture, open_picture
from data_prep.qml import qml_objects, qml_properties
from data_prep.sketches import sketch_pairs
from data_prep.sounds import usable_sounds
from data_prep.source import Package, Source
from data_prep.split import concept

_ROOT = "usr/share/gcompris-qt/rcc"
_BOARDS = ("explore_farm_animals", "explore_world_animals", "explore_monuments", "explore_world_music")
_MUSIC = "explore_world_music"
_CATEGORIES = ("monuments", "tools", "others", "renewable")
_FILE_WORDS = {"solar": "solar panel", "buffetset": "buffet set", "blackslate": "black slate"}
# The photos are called fish1 to fish28; the README beside them gives each one's title on Wikimedia Commons.
_FISH = {
    "Anthia_goldfish": ("sea goldie", "Pseudanthias squamipinnis"),
    "Anthias_anthias": ("swallowtail seaperch", "Anthias anthias"),
    "Atherina_hepsetus": ("Mediterranean sand smelt", "Atherina hepsetus"),
    "Atlantischer_Lachs": ("Atlantic salmon", "Salmo salar"),
    "Black_sea_mullus": ("red mullet", "Mullus barbatus"),
    "Capros_aper": ("boarfish", "Capros aper"),
    "Coelorinchus": ("hollowsnout grenadier", "Coelorinchus caelorhincus"),
    "Common_clownfish": ("common clownfish", "Amphiprion ocellaris"),
    "Coris_julis": ("Mediterranean rainbow wrasse", "Coris julis"),
    "Discus_fish": ("discus fish", "Symphysodon"),
    "Golden_trout": ("golden trout", "Oncorhynchus aguabonita"),
    "Goldfisch": ("goldfish", "Carassius auratus"),
    "Labrus_Merula": ("brown wrasse", "Labrus merula"),
    "Oedalechilus_labeo": ("boxlip mullet", "Oedalechilus labeo"),
    "Pagellus_acarne": ("axillary seabream", "Pagellus acarne"),
    "Pagellus_erythrinus": ("common pandora", "Pagellus erythrinus"),
    "Pagrus_pagrus": ("red porgy", "Pagrus pagrus"),
    "Placidochromis_electra": ("deepwater hap", "Placidochromis electra"),
    "Pomacanthus_arcuatus": ("gray angelfish", "Pomacanthus arcuatus"),
    "Spotted_Puffer": ("spotted puffer fish", "Tetraodontidae"),
    "Symphodus_ocellatus": ("ocellated wrasse", "Symphodus ocellatus"),
    "Symphodus_tinca": ("peacock wrasse", "Symphodus tinca"),
    "Trachinotus_ovatus": ("derbio", "Trachinotus ovatus"),
    "Trachinus_draco": ("greater weever", "Trachinus draco"),
    "YellowPerch": ("yellow perch", "Perca flavescens"),
}
_ARTISTS = {"Katsushika Hokusa": "Katsushika Hokusai", "Pieter Brugel": "Pieter Bruegel", "Bazille": "Frédéric Bazille"}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption`, `sketch`, `sound`, and the zero-shot `painting` and `fish` records."""
    root = folders["gcompris-qt-data"] / _ROOT
    yield from usable_sounds(_records(root, drops), drops, music=frozenset({_MUSIC}))


def _records(root: Path, drops: Counter) -> Iterator[Record]:
    captioned: list[Record] = []
    for reader in (_words, _boards, _instruments, _categories, _planets, _sights):
        for record in reader(root, drops):
            captioned.append(record)
            yield record
    yield from sketch_pairs(captioned)
    yield from effect_records(root, drops)
    yield from _paintings(root, drops)
    yield from _fish(root, drops)


def _captioned(
    activity: Activity, path: str, captions: list[tuple[str, str]], drops: Counter, raster: str | None = "photo"
) -> Iterator[Record]:
    """The picture with (language, caption) pairs, or its reason counted; `raster` is the style of what is no SVG."""
    try:
        image = activity.image(path)
    except DataError:
        drops["picture that cannot be read"] += 1
        return
    yield Record(
        key=record_key("gcompris", activity.name, Path(path).stem, Path(path).suffix),
        task="image_caption",
        source="gcompris",
        concept=concept(captions[0][1]),
        queries=(Variant(Content(image)),),
        positives=tuple(Variant(Content(text), language) for language, text in captions),
        extra={"category": activity.name, "style": "drawing" if path.endswith(".svg") else raster},
    )


def _words(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "lang")
    lists = {}
    for path in activity.files(r"resource/content-[\w@]+\.json"):
        language = path.removeprefix("resource/content-").removesuffix(".json")
        if language in KNOWN_LANGUAGES and language != "en":
            lists[language] = json.loads(activity.text(path))
    lessons = [
        lesson for chapter in json.loads(activity.text("resource/words_sample.json")) for lesson in chapter["content"]
    ]
    for entry in (entry for lesson in lessons for entry in lesson["content"]):
        english = entry["description"].replace("_", " ").replace("-", " ").strip()
        sound = f"{Path(entry['voice']).stem}.ogg"
        named = [(language, words[sound].strip()) for language, words in lists.items() if words.get(sound, "").strip()]
        captions = [("en", english), *((language, text) for language, text in named if text != english)]
        yield from _captioned(activity, f"resource/words_sample/{entry['image']}", captions, drops, "drawing")


def _boards(root: Path, drops: Counter) -> Iterator[Record]:
    for name in _BOARDS:
        activity = Activity(root, name)
        entries = [
            entry for path in activity.files(r"resource/board/.*\.qml") for entry in qml_objects(activity.text(path))
        ]
        shared = Counter(entry.get("image") for entry in entries)
        for entry in entries:
            if not entry.get("title") or not entry.get("text"):
                continue
            captions = [("en", entry["title"]), ("en", entry["text"])]
            for field in ("image", "image2"):
                path = entry.get(field, "")
                # A board's key or question mark stands on each of its entries and shows none of them.
                if not path or shared[path] >= 2:
                    continue
                if name == _MUSIC:
                    drops["musicians under the name of their country"] += 1
                else:
                    yield from _captioned(activity, path, captions, drops)
            if entry.get("audio"):
                text = entry["text"] if name == _MUSIC else entry["title"]
                yield activity_sound(activity, entry["audio"].replace("$CA", "ogg"), text, entry["title"])


def _instruments(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "instruments")
    done: set[str] = set()
    for entry in qml_objects(activity.text("instruments.js")):
        name = entry.get("text", "").removeprefix("Find the ")
        if name and entry["image"] not in done:
            done.add(entry["image"])
            yield from _captioned(activity, entry["image"], [("en", name)], drops)
            yield activity_sound(activity, entry["audio"].replace("$CA", "ogg"), name, name)


def _categories(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "categorization")
    for path in activity.files(rf"resource/images/({'|'.join(_CATEGORIES)})/.*\.webp"):
        name = name_of_file(Path(path).stem)
        if name == "monument":
            drops["picture without a name"] += 1
            continue
        yield from _captioned(activity, path, [("en", name)], drops)


def name_of_file(stem: str) -> str:
    """Words of a camel-case file name, without its running number: "screwDriver3" is "screw driver"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem.rstrip("0123456789"))
    return _FILE_WORDS.get(words, words if words.istitle() else words[:1] + words[1:].casefold())


def _planets(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "solar_system")
    for path in activity.files(r"resource/\w+\.webp"):
        yield from _captioned(activity, path, [("en", Path(path).stem.capitalize())], drops, raster=None)


def _sights(root: Path, drops: Counter) -> Iterator[Record]:
    """The photos of the `details` boards; its paintings are left to `_paintings`."""
    activity = Activity(root, "details")
    for title, path in _details(activity):
        if "Gogh" not in title:
            yield from _captioned(activity, path, [("en", title)], drops)


def _details(activity: Activity) -> Iterator[tuple[str, str]]:
    for board in activity.files(r"resource/board/.*\.qml"):
        text = activity.text(board)
        background = next((entry["pixmapfile"] for entry in qml_objects(text) if "type" in entry), None)
        title = qml_properties(text).get("instruction")
        if background and title:
            yield title.rstrip("."), f"resource/{background}"


def _paintings(root: Path, drops: Counter) -> Iterator[Record]:
    tiles, crops = Activity(root, "paintings"), Activity(root, "details")
    found: list[tuple[str, str, Callable[[], bytes]]] = []
    for board in tiles.files(r"resource/board/.*\.qml"):
        text = tiles.text(board)
        title = qml_properties(text)["instruction"]
        found.append((title, Path(board).stem, lambda text=text: assemble_painting(qml_objects(text), _tile(tiles))))
    for title, path in _details(crops):
        if "Gogh" in title:
            found.append(
                (title, Path(path).stem, lambda path=path: encode_picture(open_picture(crops.read(path), path)))
            )
    for title, name, picture in found:
        try:
            yield _painting(title.rstrip("."), name, picture())
        except DataError:
            drops["painting that cannot be put together"] += 1


def _tile(activity: Activity) -> Callable[[str], bytes]:
    return lambda name: activity.read(f"resource/{name}")


def _painting(title: str, name: str, picture: bytes) -> Record:
    work, _, year = title.partition(" - ")
    artist, _, work = work.partition(", ")
    artist = _ARTISTS.get(artist, artist.replace("Vincent Van", "Vincent van"))
    return Record(
        key=record_key("gcompris", "painting", name),
        task="painting",
        source="gcompris",
        concept=concept(work),
        queries=(Variant(Content(Image(picture, name=f"gcompris/painting/{name}.webp"))),),
        positives=(Variant(Content(f"{artist}, {work}"), "en"),),
        extra={"artist": artist, "title": work, "year": year},
    )


def _fish(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "categorization")
    folder = "resource/images/fishes"
    titles = re.findall(r"/File:(\S+)\n.*\nFiles:\n(\S+)", activity.text(f"{folder}/README"))
    for title, file in titles:
        names = next((names for start, names in _FISH.items() if title.startswith(start)), None)
        if not names:
            drops["fish without a name"] += 1
            continue
        for record in _captioned(activity, f"{folder}/{file}", [("en", names[0]), ("la", names[1])], drops):
            yield Record(**{**vars(record), "task": "fish", "extra": {"species": names[1]}})


SOURCE = Source(
    name="gcompris",
    packages=(
        Package(
            client="apt",
            name="gcompris-qt-data",
            version="3.1-2",
            filename="gcompris-qt-data_3.1-2_all.deb",
            sha256="e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
            bytes=44196292,
        ),
    ),
    licence="GPL-3.0-or-later; pictures CC0, CC-BY, CC-BY-SA or public domain",
    provenance="GCompris 3.1 activity data, as packed by Debian",
    tiers=frozenset({"mini"}),
    records=records,
    zero_shot_tasks=frozenset({"painting", "fish"}),
)
