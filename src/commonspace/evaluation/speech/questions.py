"""What clips ask: the text of the same thing, in the language spoken or in another, among all texts of that language.

speech_english         en->en  English for English
speech_in_language     xx->xx  every other language for itself
speech_from_english    en->xx  English for every other language
speech_to_english      xx->en  every other language for English
speech_cross_language  xx->yy  every other language for every other

The pool of a question is all texts of the language asked for. A clip asks for every language that has a text of its
concept, but across languages not where its own words stand in the pool ("Un puma." in Spanish and in Catalan): there
the answer would be of the language spoken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from commonspace.content import Content
from commonspace.evaluation.relevance import Relevance
from commonspace.evaluation.specs import SPEECH_PAIRS
from commonspace.evaluation.speech.clips import ENGLISH, Clip, Written, spoken_form
from commonspace.evaluation.suite import EvalTask

IN_ENGLISH = "speech_english"
IN_LANGUAGE, FROM_ENGLISH, TO_ENGLISH, CROSS = SPEECH_PAIRS
DIRECTIONS = {
    IN_ENGLISH: "en->en",
    IN_LANGUAGE: "xx->xx",
    FROM_ENGLISH: "en->xx",
    TO_ENGLISH: "xx->en",
    CROSS: "xx->yy",
}


@dataclass(frozen=True)
class Question:
    """A task, and which clips and texts its queries [Q] and items [G] are."""

    task: EvalTask
    clips: np.ndarray
    texts: np.ndarray


def name_of_question(spoken: str, written: str) -> str:
    """The task that asks for a text in `written` by a clip in `spoken`."""
    if spoken == written:
        return IN_ENGLISH if spoken == ENGLISH else IN_LANGUAGE
    return {spoken: FROM_ENGLISH, written: TO_ENGLISH}.get(ENGLISH, CROSS)


def build_questions(
    clips: Sequence[Clip], texts: Sequence[Written], split: str, near: Collection[int] = ()
) -> list[Question]:
    """The tasks that have queries, in the order of `DIRECTIONS`.

    near  digests of contents near to training: a query of them counts where its sound, its words or an answer is one
    """
    pools: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        pools[text.language].append(row)
    forms = {language: {spoken_form(texts[row].text) for row in rows} for language, rows in pools.items()}
    asked: dict[str, list[tuple[int, str, list[int]]]] = {name: [] for name in DIRECTIONS}
    for place, clip in enumerate(clips):
        for written, rows in pools.items():
            right = [row for row in rows if clip.concept in texts[row].concepts]
            repeated = clip.language != written and spoken_form(clip.words) in forms[written]
            if right and not repeated:
                asked[name_of_question(clip.language, written)].append((place, written, right))
    return [_question(name, clips, texts, pools, some, split, near) for name, some in asked.items() if some]


def _question(
    name: str,
    clips: Sequence[Clip],
    texts: Sequence[Written],
    pools: dict[str, list[int]],
    asked: Sequence[tuple[int, str, list[int]]],
    split: str,
    near: Collection[int],
) -> Question:
    items = [row for language in dict.fromkeys(written for _, written, _ in asked) for row in pools[language]]
    place = {row: number for number, row in enumerate(items)}
    own = [clips[row] for row, _, _ in asked]
    starts = np.concatenate([[0], np.cumsum([len(right) for _, _, right in asked])]).astype(np.int64)
    answers = np.array([place[row] for _, _, right in asked for row in right], np.int64)
    pairs = [
        clip.language if clip.language == language else f"{clip.language}->{language}"
        for clip, (_, language, _) in zip(own, asked, strict=True)
    ]
    several = len(set(pairs)) > 1
    spoken = [Content(clip.sound) for clip in own]
    written = [Content(texts[row].text) for row in items]
    task = EvalTask(
        name=name,
        suite=split,
        split=split,
        direction=DIRECTIONS[name],
        queries=tuple(spoken),
        gallery=tuple(written),
        relevance=Relevance(starts, answers),
        keys=tuple(f"{clips[row].key}:{language}" for row, language, _ in asked),
        concepts=tuple(clip.concept for clip in own),
        units=tuple(clip.concept for clip in own),
        languages=tuple(pairs) if several or name == IN_ENGLISH else ("",) * len(own),  # a lone pair is all of it
        sources=tuple(clip.source for clip in own),
        query_groups=tuple(language for _, language, _ in asked),
        gallery_groups=tuple(texts[row].language for row in items),
        query_digests=np.array([clip.digest for clip in own], np.int64),
        gallery_digests=np.array([content.digest() for content in written], np.int64),
        targets=np.array([_target(clips[row], [texts[one] for one in right], near) for row, _, right in asked]),
        grouped=several,
    )
    return Question(task, np.array([row for row, _, _ in asked]), np.array(items))


def _target(clip: Clip, right: Sequence[Written], near: Collection[int]) -> int:
    """The digest of a text that training has all but seen, of the clip's words and its answers; else of its words."""
    digests = [Content(clip.words).digest(), *(digest for text in right for digest in sorted(text.digests))]
    return next((digest for digest in digests if digest in near), digests[0])
