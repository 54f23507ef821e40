"""Dev scores of blends that were scored already: what a run that was killed does not score again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from commonspace.models.blend import Blend
from commonspace.models.ingredients import Ingredient

Scores = dict[str, float]


class ScoreBook:
    """A file of JSON lines, one a blend, in the folder of the run; taken away when the run ends well.

    A line counts for the same tensors of the same ingredients at the same shares, on the same dev suite and batches.
    A line that was cut is passed over.
    """

    def __init__(self, file: Path, ingredients: Sequence[Ingredient], suite: str) -> None:
        self.file, self.ingredients, self.suite = file, ingredients, suite
        self._known: dict[str, tuple[Scores, Scores]] = {}
        for line in file.read_text().splitlines() if file.is_file() else ():
            try:
                told = json.loads(line)
                self._known[told["key"]] = (told["scores"], told["losses"])
            except (ValueError, KeyError):
                continue

    def get(self, blend: Blend) -> tuple[Scores, Scores] | None:
        """Scores and losses of a blend, None where it was not scored."""
        return self._known.get(self._key(blend))

    def put(self, blend: Blend, scores: Scores, losses: Scores) -> None:
        """Write down what a blend scored."""
        key = self._key(blend)
        self._known[key] = (scores, losses)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as stream:
            stream.write("\n" * self._cut() + json.dumps({"key": key, "scores": scores, "losses": losses}) + "\n")

    def close(self) -> None:
        """The run ended well: the next one scores anew, whatever changed meanwhile."""
        self.file.unlink(missing_ok=True)

    def _cut(self) -> bool:
        """Whether the file ends within a line."""
        if not self.file.is_file() or not self.file.stat().st_size:
            return False
        with self.file.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read() != b"\n"

    def _key(self, blend: Blend) -> str:
        members = [self.ingredients[member].sha256 for member in blend.members]
        told = {"suite": self.suite, "members": members, **blend.to_json()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
