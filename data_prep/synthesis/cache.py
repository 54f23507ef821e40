"""Answers that were paid for, in one SQLite file: a call that was killed, or repeated, asks for none of them again."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import Lock

from commonspace.errors import DataError

_TABLE = """CREATE TABLE IF NOT EXISTS answers
(key TEXT PRIMARY KEY, text TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER, finish TEXT NOT NULL)"""


@dataclass(frozen=True)
class Answer:
    """What a model said, how many tokens that took (None: the endpoint does not say), and why it ended ("stop",
    "length" ...).
    """

    text: str
    input_tokens: int | None
    output_tokens: int | None
    finish: str = "stop"


class AnswerCache:
    """Answers by key, each on disk before `put` returns; threads and processes may share a file.

    Raises:
        DataError: the file is no database, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._base = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._base.execute(_TABLE)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def get(self, key: str) -> Answer | None:
        rows = self._run("SELECT text, input_tokens, output_tokens, finish FROM answers WHERE key = ?", (key,))
        return Answer(*rows[0]) if rows else None

    def put(self, key: str, answer: Answer) -> None:
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", (key, *astuple(answer)))

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def _run(self, statement: str, values: tuple) -> list[tuple]:
        try:
            with self._lock:
                return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> DataError:
        return DataError(f"{self.path}: the cache of answers cannot be used ({error}); move it away to start a new one")
