"""Tux Paint's captions read by eSpeak NG where nobody recorded them: synthetic, for training alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Audio, Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.sources import tuxpaint
from data_prep.speech_synthesis import Speaker
from data_prep.split import concept

_NAME = "espeak"
_CAPTIONS_PER_LANGUAGE = 80
# Our codes and eSpeak NG's voices. Languages are left out whose script it does not read well without a dictionary
# (Japanese, Thai, Hebrew, Chinese), and those that the text backbone does not know.
VOICES = {
    "af": "af", "ar": "ar", "az": "az", "be": "be", "bg": "bg", "bn": "bn", "bs": "bs", "ca": "ca", "cs": "cs",
    "cy": "cy", "da": "da", "de": "de", "el": "el", "en": "en", "eo": "eo", "es": "es", "et": "et", "eu": "eu",
    "fa": "fa", "fi": "fi", "fr": "fr", "ga": "ga", "gd": "gd", "gu": "gu", "hi": "hi", "hr": "hr", "hu": "hu",
    "hy": "hy", "id": "id", "is": "is", "it": "it", "ka": "ka", "kn": "kn", "ko": "ko", "ku": "ku", "lt": "lt",
    "lv": "lv", "mk": "mk", "ml": "ml", "mr": "mr", "ms": "ms", "nb": "nb", "ne": "ne", "nl": "nl", "nn": "nb",
    "or": "or", "pa": "pa", "pl": "pl", "pt": "pt", "pt_BR": "pt-BR", "ro": "ro", "ru": "ru", "sk": "sk", "sl": "sl",
    "sq": "sq", "sr": "sr", "sv": "sv", "sw": "sw", "ta": "ta", "te": "te", "tr": "tr", "uk": "uk", "ur": "ur",
    "vi": "vi",
}  # fmt: skip

_PACKAGE = Package(
    client="pip",
    name="espeakng-loader",
    version="0.2.4",
    filename="espeakng_loader-0.2.4-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="08721baf27d13d461f6be6eed9a65277e70d68234ff484fd8b9897b222cdcb6d",
    bytes=10078484,
)
_STAMPS = tuxpaint.SOURCE.packages[0]


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`speech` records, marked `synthetic`."""
    root = folders[_STAMPS.name] / "usr/share/tuxpaint/stamps"
    folder = folders[_PACKAGE.name] / "espeakng_loader"
    speaker = Speaker(folder / "libespeak-ng.so.1", folder)
    captions = _captions(root, drops)
    for language, voice in VOICES.items():
        spoken = captions.get(language, [])
        drops[f"beyond {_CAPTIONS_PER_LANGUAGE} captions of a language"] += max(0, len(spoken) - _CAPTIONS_PER_LANGUAGE)
        for stamp, english, text in spoken[:_CAPTIONS_PER_LANGUAGE]:
            sound = speaker.speak(text, voice)
            if sound is None:
                drops[f"{language}: nothing is said"] += 1
                continue
            name = concept(english)
            yield Record(
                key=record_key(_NAME, language, stamp),
                task="speech",
                source=_NAME,
                concept=name,
                queries=(Variant(Content(Audio(sound, name=f"{_NAME}/{language}/{stamp}.flac")), language),),
                positives=(Variant(Content(text), language),),
                extra={"language": language, "synthetic": True, "members": [name]},
            )


def _captions(root: Path, drops: Counter) -> dict[str, list[tuple[str, str, str]]]:
    """{language: (stamp, English caption, caption) that nobody recorded, in an order drawn by hash}, each text once."""
    recorded = tuxpaint.find_sounds(root)
    found: dict[str, dict[str, tuple[str, str, str]]] = {}
    for path in sorted(root.rglob("*.txt")):
        stamp = path.relative_to(root).with_suffix("").as_posix()
        try:
            texts = tuxpaint.read_captions(path)
        except DataError:
            drops["stamp without a caption"] += 1
            continue
        spoken = recorded.get(tuxpaint.loose_name(stamp), {})
        for language in VOICES.keys() & texts.keys():
            if language in spoken:
                drops["caption that somebody recorded"] += 1
            else:
                found.setdefault(language, {}).setdefault(texts[language], (stamp, texts["en"], texts[language]))
    return {language: sorted(texts.values(), key=_order) for language, texts in found.items()}


def _order(item: tuple[str, str, str]) -> bytes:
    return hashlib.blake2b(item[0].encode(), digest_size=8).digest()


SOURCE = Source(
    name=_NAME,
    packages=(_STAMPS, _PACKAGE),
    licence="GPL-2 (captions); eSpeak NG itself is GPL-3.0-or-later",
    provenance="Captions of Tux Paint's stamps spoken by eSpeak NG 1.52 out of the wheel espeakng-loader 0.2.4",
    tiers=frozenset({"full"}),
    records=records,
)
