"""Pairs that are longer than a model may read: their texts lose their ends, their pictures stay."""

from __future__ import annotations

from typing import Any

from commonspace.errors import ContentError
from commonspace.mining.rendering import Shown


def shortened(sides: dict[str, list[Shown]], over: int, limit: int, tokenizer: Any) -> dict[str, list[Shown]]:
    """`target` and `query` with some `over` tokens less, each some letters at least where it is cut.

    The target is cut first; the query where it takes more than half of what texts have. Raises ContentError where there
    is no token for each text: what stands beside them takes all of `limit`.
    """
    counts = {name: sum(tokens_of(piece, tokenizer) for piece in shown) for name, shown in sides.items()}
    room = sum(counts.values()) - over
    if room < max(1, sum(map(bool, counts.values()))):
        raise ContentError(
            f"a pair's prompt and pictures leave its texts {max(room, 0)} of {limit} tokens; raise max_tokens, or mine "
            "this task without this teacher"
        )
    target = min(counts["target"], max(room - counts["query"], room // 2))
    left = {"target": target, "query": room - target}
    return {name: _beginning(shown, left[name], tokenizer) for name, shown in sides.items()}


def tokens_of(piece: Shown, tokenizer: Any) -> int:
    """Of a text alone, without special ones; of a picture none, which only a model's processor can tell."""
    return len(tokenizer.encode(piece, add_special_tokens=False)) if isinstance(piece, str) else 0


def _beginning(shown: list[Shown], left: int, tokenizer: Any) -> list[Shown]:
    """The first `left` tokens of the texts, and all pictures."""
    kept: list[Shown] = []
    for piece in shown:
        count = tokens_of(piece, tokenizer)
        kept.append(_cut(piece, left, count, tokenizer) if isinstance(piece, str) and count > left else piece)
        left = max(0, left - count)
    return kept


def _cut(text: str, left: int, count: int, tokenizer: Any) -> str:
    """The first `left` of a text's tokens; by its letters where the tokenizer does not tell where they begin."""
    if not tokenizer.is_fast:
        return text[: len(text) * left // count]
    starts = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text[: min(starts[left][0], len(text) - 1)]  # tokens of one letter begin together: less in any case
