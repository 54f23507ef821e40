from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest
from PIL import Image as PILImage

from data_prep.sources.gcompris import SOURCE, name_of_file

_ROOT = "usr/share/gcompris-qt/rcc"
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="20" height="30" fill="red"/></svg>'


def _resource_writer():
    """The writer that the reader's own test uses: one description of the format, two readers of it."""
    path = Path(__file__).parent.parent / "test_qt_resource.py"
    spec = importlib.util.spec_from_file_location("qt_resource_fixture", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_resource


def _board(*entries: dict, instruction: str = "") -> bytes:
    head = f'property string instruction: qsTr("{instruction}")\n' if instruction else ""
    fields = [
        ",".join(f'"{k}": {v if k in ("width", "height") else f"qsTr({json.dumps(v)})"}' for k, v in entry.items())
        for entry in entries
    ]
    return (head + "\n".join("{" + body + "}" for body in fields)).encode()


def _at(name: str, activity: str) -> str:
    return f"qrc:/gcompris/src/activities/{activity}/resource/{name}"


def _sounding(sound) -> dict[str, dict[str, bytes]]:
    """Activities with sounds that have a name, none, or are silent, empty or another's."""
    return {
        "instruments": {
            "instruments.js": _board(
                {
                    "image": _at("harp.svg", "instruments"),
                    "text": "Find the harp",
                    "audio": _at("harp.$CA", "instruments"),
                }
            ),
            "resource/harp.svg": _SVG,
            "resource/harp.ogg": sound(pitch=500),
        },
        "memory-sound": {
            "resource/LRRain_in_garden_01_LA_cut.ogg": sound(pitch=600),
            "resource/LRDoor_Open_2_LA.ogg": sound(pitch=650),
            "resource/guitar_son1.ogg": sound(pitch=700),
            "resource/LRWeird_1_LA.ogg": sound(pitch=750),
        },
        "core": {"resource/sounds/bleep.wav": sound(pitch=800), "resource/sounds/win.wav": sound(pitch=850)},
        "erase": {"resource/eraser1.wav": sound(pitch=900), "resource/eraser2.wav": sound(pitch=900)},
        "morse_code": {"resource/silence.wav": sound(pitch=0), "resource/dot.wav": sound(0)},
        "ballcatch": {"resource/youcannot.wav": sound(pitch=950)},
    }


@pytest.fixture
def data(tmp_path: Path, picture, sound) -> Path:
    photo = lambda seed: picture((60, 50), kind="WEBP", seed=seed)  # noqa: E731
    tiles = {name: picture((50, 100), colour, "WEBP") for name, colour in {"l.webp": "red", "r.webp": "blue"}.items()}
    words = [{"content": [{"content": [{"description": "cow", "image": "cow.webp", "voice": "v/cow.$CA"}]}]}]
    farm, music, tools = "explore_farm_animals", "explore_world_music", "categorization"
    cow = {
        "image": _at("cow.svg", farm),
        "title": "Cow",
        "text": "The cow goes 'moo'.",
        "image2": _at("cow.webp", farm),
    }
    keyed = [
        {
            "image": _at("key.svg", music),
            "image2": _at(f"{t}.webp", music),
            "title": t,
            "text": f"Music of {t}.",
            "audio": _at(f"{t}.$CA", music),
        }
        for t in "AB"
    ]
    fish = "\n".join(
        f"Source: https://x.org/File:{t}.jpg\nLicense: PD\nFiles:\n{f}\n"
        for t, f in [("Capros_aper_1", "fish1.webp"), ("Unknown_thing", "fish2.webp")]
    )
    tile = [{"pixmapfile": f"image/{n}", "x": x, "y": "0.5"} for n, x in (("r.webp", "0.75"), ("l.webp", "0.25"))]
    size = {"pixmapfile": "image/bg.svg", "type": "BACKGROUND", "width": 100, "height": 100}
    activities = {
        "lang": {
            "resource/words_sample.json": json.dumps(words).encode(),
            "resource/content-fr.json": json.dumps({"cow.ogg": "une vache"}).encode(),
            "resource/content-iu.json": json.dumps({"cow.ogg": "x"}).encode(),
            "resource/words_sample/cow.webp": picture((600, 600), "tan", "WEBP"),
        },
        farm: {"resource/board/board1.qml": _board(cow), "resource/cow.svg": _SVG, "resource/cow.webp": photo(1)},
        music: {
            "resource/board/b.qml": _board(*keyed),
            "resource/key.svg": _SVG,
            "resource/A.ogg": sound(pitch=300),
            "resource/B.ogg": sound(31 * 16000),
        },
        "explore_world_animals": {},
        "explore_monuments": {},
        tools: {
            "resource/images/tools/screwDriver3.webp": photo(2),
            "resource/images/tools/broken.webp": b"RIFF",
            "resource/images/monuments/monument2.webp": photo(3),
            "resource/images/fishes/README": fish.encode(),
            "resource/images/fishes/fish1.webp": photo(4),
            "resource/images/fishes/fish2.webp": photo(5),
        },
        "solar_system": {"resource/mars.webp": photo(6)},
        "details": {
            "resource/board/1.qml": _board(
                {"pixmapfile": "image/tower.webp", "type": "B"}, instruction="Eiffel Tower."
            ),
            "resource/board/2.qml": _board(
                {"pixmapfile": "image/g.webp", "type": "B"}, instruction="Vincent van Gogh, The Harvest - 1888"
            ),
            "resource/image/tower.webp": photo(7),
            "resource/image/g.webp": photo(8),
        },
        **_sounding(sound),
        "paintings": {
            "resource/board/b1.qml": _board(size, *tile, instruction="Pieter Brugel, The Halves - 1565"),
            "resource/board/b2.qml": _board(
                size, {"pixmapfile": "image/none.webp", "x": "0.5", "y": "0.5"}, instruction="X, Lost - 1"
            ),
            **{f"resource/image/{name}": content for name, content in tiles.items()},
        },
    }
    folder = tmp_path / _ROOT
    folder.mkdir(parents=True)
    write_resource = _resource_writer()
    for name, files in activities.items():
        # The writer makes one folder called "top": the path inside the activity follows in the file's name.
        named = {f"{path}": (content, "zlib") for path, content in files.items()}
        place = "gcompris/src/core" if name == "core" else f"gcompris/src/activities/{name}"
        write_resource(folder / f"{name}.rcc", named, folder=place)
    return tmp_path


def test_every_activity_gives_its_records(data: Path, read) -> None:
    records, drops = read(SOURCE, root=data)
    captions = {record.key.rsplit("-", 1)[0]: record for record in records["image_caption"]}
    texts = sorted(record.positives[0].content.parts[0].text for record in records["image_caption"])
    assert texts == ["Cow", "Cow", "Eiffel Tower", "Mars", "cow", "harp", "screw driver"]
    cow = next(record for key, record in captions.items() if "lang" in key)
    assert [(v.language, v.content.parts[0].text) for v in cow.positives] == [("en", "cow"), ("fr", "une vache")]
    assert max(PILImage.open(io.BytesIO(cow.queries[0].content.parts[0].source)).size) == 384
    assert {(record.concept, record.extra["drawing_source"]) for record in records["sketch"]} == {("cow", "gcompris")}
    assert len(records["sketch"]) == 2  # the word's drawing and the board's, each with the photo
    sounds = sorted(record.positives[0].content.parts[0].text for record in records["sound"])
    assert sounds == ["Music of A.", "bleep", "door opening", "eraser", "guitar", "harp", "rain in garden"]
    assert drops == {
        "musicians under the name of their country": 2,
        "picture without a name": 1,
        "picture that cannot be read": 1,
        "fish without a name": 1,
        "painting that cannot be put together": 1,
        "music longer than 30 s": 1,
        "sound that no name describes": 3,
        "sound that is silent": 1,
        "sound without samples": 1,
        "sound that repeats another one, sample for sample": 1,
    }


def test_paintings_and_fish_are_for_evaluation_only(data: Path, read) -> None:
    records, _ = read(SOURCE, root=data)
    halves, harvest = records["painting"]
    assert halves.positives[0].content.parts[0].text == "Pieter Bruegel, The Halves"
    assert halves.extra == {"artist": "Pieter Bruegel", "title": "The Halves", "year": "1565"}
    painting = PILImage.open(io.BytesIO(halves.queries[0].content.parts[0].source)).convert("RGB")
    assert painting.size == (100, 100)
    assert painting.getpixel((20, 50))[0] > 200
    assert painting.getpixel((80, 50))[2] > 200
    assert harvest.extra["artist"] == "Vincent van Gogh"
    (fish,) = records["fish"]
    assert [(v.language, v.content.parts[0].text) for v in fish.positives] == [
        ("en", "boarfish"),
        ("la", "Capros aper"),
    ]
    assert SOURCE.held_out("fish")
    assert SOURCE.held_out("painting")
    assert not SOURCE.held_out("image_caption")


def test_names_of_files() -> None:
    names = ["screwDriver3", "tajMahal", "IndiaGate", "solar4", "hammer12", "statueOfLiberty"]
    assert [name_of_file(name) for name in names] == [
        "screw driver",
        "taj mahal",
        "India Gate",
        "solar panel",
        "hammer",
        "statue of liberty",
    ]
