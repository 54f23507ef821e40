"""Every question of the held-out suite, one line each: which shards, which way round, what counts as right.

`match` follows what a concept is. Where it is a thing (a flamingo) any item of that thing is right. Where it is a
container (a manual page's paragraphs and figures, a module's functions, a mesh family's clips) only the partner, or a
text that reads the same, is right. Composed queries ask for one relation of the concept and get no credit for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from commonspace.evaluation.relevance import Match


@dataclass(frozen=True)
class TaskSpec:
    """How one task on disk is asked in one direction.

    name       as in result rows
    shard      task name of the shards
    direction  as in result rows, "query->item"
    reverse    ask with the record's positive for its query
    match      see `relevance.labels_of`
    group      None: one pool. language: all variants, each language a pool of its own, at least `least` pairs in
               each. action: clips that have sound, each action a pool of its own.
    most       at most so many pairs (of each language, where grouped), drawn by hash of the key: long texts are most
               of what an evaluation costs. None: all
    unit       what "one query a concept" and the intervals count: the concept, or the pair where the held-out
               concepts are a handful of mesh families
    mute       videos without their soundtrack
    zero_shot  from sources in no training tier; exists on held-out only
    own        pairs of a user's own: missed in no other tier
    prompt     task name of the prefix for queries of text alone, as in training
    """

    name: str
    shard: str
    direction: str
    reverse: bool = False
    match: Match = "concept"
    group: Literal["language", "action"] | None = None
    least: int = 20
    most: int | None = None
    unit: Literal["concept", "pair"] = "concept"
    mute: bool = False
    zero_shot: bool = False
    own: bool = False
    prompt: str | None = None


def _both(name: str, shard: str, query: str, item: str, **options: object) -> tuple[TaskSpec, TaskSpec]:
    """The stored direction and its reverse."""
    return (
        TaskSpec(name, shard, f"{query}->{item}", **options),  # type: ignore[arg-type]
        TaskSpec(name, shard, f"{item}->{query}", reverse=True, **options),  # type: ignore[arg-type]
    )


SPECS: tuple[TaskSpec, ...] = (
    *_both("image_caption", "image_caption", "image", "text"),
    *_both("image_caption_languages", "image_caption", "image", "text", group="language", most=100),
    TaskSpec("sketch", "sketch", "image->image"),
    *_both("speech", "speech", "speech", "text"),
    *_both("speech_languages", "speech", "speech", "text", group="language"),
    *_both("sound", "sound", "sound", "text"),
    *_both("video", "video", "video", "text", match="pair", unit="pair"),
    *_both("video_muted", "video", "video", "text", match="pair", unit="pair", mute=True),
    TaskSpec("video_sound", "video", "text->video", True, match="pair", unit="pair", group="action"),
    TaskSpec("video_sound_muted", "video", "text->video", True, match="pair", unit="pair", group="action", mute=True),
    *_both("crosslingual", "crosslingual", "en", "xx", match="pair", group="language", prompt="sentence similarity"),
    TaskSpec("summary", "summary", "text->text", most=300, prompt="search result"),
    TaskSpec("recipe", "recipe", "text->text", most=200, prompt="search result"),
    TaskSpec("code", "code", "text->code", match="pair", most=300, prompt="code retrieval"),
    TaskSpec("document", "document", "text->document", prompt="search result"),
    TaskSpec("document_part", "document_part", "document->document"),
    TaskSpec("figure", "figure", "image+text->text", match="pair"),
    TaskSpec("stamp_language", "stamp_language", "image+text->text", match="relation"),
    TaskSpec("emoji_language", "emoji_language", "image+text->text", match="relation", most=1500),
    TaskSpec("food", "food", "image+text->text", match="relation", most=800, zero_shot=True),
    *_both("painting", "painting", "image", "text", zero_shot=True),
    *_both("fish", "fish", "image", "text", zero_shot=True),
    *_both("astronomy", "astronomy", "image", "text", zero_shot=True),
    *_both("constellation", "constellation", "image", "text", zero_shot=True),
    *_both("term", "term", "en", "xx", group="language", most=100, prompt="sentence similarity"),
    TaskSpec("definition", "definition", "text->text", most=500, prompt="search result"),
    TaskSpec("manual", "manual", "text->text", most=300, prompt="search result"),
    *_both("own", "own", "query", "positive", own=True),
)
# Questions of `commonspace evaluate speech` with a row for each language, or pair of spoken and written ones.
SPEECH_PAIRS = ("speech_in_language", "speech_from_english", "speech_to_english", "speech_cross_language")
# Tasks with a row for each language among several.
BY_LANGUAGE = frozenset(spec.name for spec in SPECS if spec.group == "language") | frozenset(SPEECH_PAIRS)
# Composed queries: every relation of a concept counts, not one drawn for it.
COMPOSED = tuple(spec.name for spec in SPECS if spec.match == "relation")
# Pairs of tasks whose mean MRR@10 over both directions is the primary measure.
PRIMARY = ("image_caption", "speech")
