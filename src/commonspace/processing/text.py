"""Text to token ids, special tokens apart: the processor puts those around a whole content."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from commonspace.errors import ContentError, WeightsError


class TextTokenizer:
    """A `tokenizers.Tokenizer` whose special tokens stand around a content instead of around each text.

    `start` and `end` are the ids that the tokenizer's own post-processor puts before and after a text:
    `start + ids(text) + end` is exactly `tokenizer.encode(text).ids`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.start, self.end = _around(tokenizer)

    @classmethod
    def from_folder(cls, folder: Path) -> TextTokenizer:
        """The tokenizer of a weights or model folder."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise WeightsError(f"{folder}: holds no tokenizer.json; weights for text need one")
        return cls(Tokenizer.from_file(str(path)))

    def ids(self, text: str) -> list[int]:
        """Token ids without special tokens; raises ContentError for a str that is no valid Unicode."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ContentError(
                f"text {text[:40]!r}: holds half of a surrogate pair at character {error.start}; "
                'decode it with errors="replace"'
            ) from error
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self.tokenizer.decode(ids)


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special ids before and after any text, read off a text known with and without them."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    raise WeightsError("tokenizer.json: special tokens change the text's own ids, which no known encoder does")
