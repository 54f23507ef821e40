from __future__ import annotations

from data_prep.sources import espeak


def test_only_captions_that_nobody_recorded_are_spoken(write, read, sound, tmp_path, monkeypatch):
    class Speaker:
        def __init__(self, library, _data):
            assert library.name == "libespeak-ng.so.1"

        def speak(self, text, voice):
            return None if text == "Silence." else f"{voice}: {text}".encode()

    monkeypatch.setattr(espeak, "Speaker", Speaker)
    monkeypatch.setattr(espeak, "_CAPTIONS_PER_LANGUAGE", 2)
    root = "usr/share/tuxpaint/stamps"
    write(f"{root}/owl.txt", "An owl.\nfr.utf8=Un hibou.\nde.utf8=Eine Eule.\nja.utf8=フクロウ\n")
    write(f"{root}/owl_desc_fr.ogg", sound())
    for number in range(3):
        write(f"{root}/cat{number}.txt", f"Cat {number}.\nde.utf8=Katze {number}.\nsv.utf8=Silence.\n")
    records, drops = read(espeak.SOURCE, root=tmp_path)
    found = {(record.extra["language"], record.positives[0].content.parts[0].text) for record in records["speech"]}
    assert {language for language, _ in found} == {"en", "de"} and len(found) == 4
    assert all(
        record.extra["synthetic"] and record.extra["members"] == [record.concept] for record in records["speech"]
    )
    assert drops == {
        "caption that somebody recorded": 1,
        "beyond 2 captions of a language": 4,
        "sv: nothing is said": 1,
    }
