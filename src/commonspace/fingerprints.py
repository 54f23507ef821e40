"""Content hashes of files and folders, so that "changed" means changed bytes and not a newer date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from commonspace.errors import DataError
from commonspace.files import sha256_of, write_json


class Fingerprints:
    """Hashes of paths; those of large files are kept in a JSON file by size and time of change.

    A pattern is a file, a folder (all files below it), a glob such as "data/mini/*/*.json", or "exists:PATH", which
    stands for whether there is something at that path and no more.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._known: dict[str, tuple[int, int, str]] = {}
        if store.is_file():
            try:
                self._known = {path: tuple(entry) for path, entry in json.loads(store.read_text()).items()}
            except ValueError:  # a broken cache costs time, no more
                self._known = {}

    def of(self, pattern: str) -> str | None:
        """Hash over the names and bytes of what a pattern matches; None where nothing is there.

        Raises DataError naming a file that cannot be read.
        """
        if pattern.startswith("exists:"):
            path = Path(pattern.removeprefix("exists:"))
            return "there" if path.is_file() or (path.is_dir() and any(path.iterdir())) else None
        files = list(_files(pattern))
        if not files:
            return None
        state = hashlib.sha256()
        for file in files:
            state.update(f"{file}\0{self._file(file)}\n".encode())
        return state.hexdigest()

    def _file(self, path: Path) -> str:
        try:
            about = path.stat()
            known = self._known.get(str(path))
            if known and known[:2] == (about.st_size, about.st_mtime_ns):
                return known[2]
            digest = sha256_of(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        self._known[str(path)] = (about.st_size, about.st_mtime_ns, digest)
        return digest

    def save(self) -> None:
        """Keep what was hashed, for the next call."""
        write_json(self.store, self._known)


def _files(pattern: str) -> Iterable[Path]:
    path = Path(pattern)
    if any(sign in pattern for sign in "*?["):
        base = Path(path.anchor) if path.is_absolute() else Path()
        matches = base.glob(str(path.relative_to(path.anchor)) if path.is_absolute() else pattern)
    else:
        matches = path.rglob("*") if path.is_dir() else [path]
    hidden = ("__pycache__", ".partial")
    return sorted(file for file in matches if file.is_file() and not any(sign in str(file) for sign in hidden))
