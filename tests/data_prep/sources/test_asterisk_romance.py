from __future__ import annotations

from data_prep.sources import all_sources


def test_spanish_and_italian_prompts_share_the_english_concepts():
    for language in ("es", "it"):
        source = all_sources()[f"asterisk-{language}"]
        assert source.packages[-1] in all_sources()["asterisk-en"].packages and len(source.packages) == 3
