"""mteb's cache of results, shared by jobs that write at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commonspace.locks import take_lock


def shared_cache(folder: Path, revisions: Mapping[str, str] | None = None) -> Any:
    """An mteb `ResultCache` in `folder`, FOLDER/results/MODEL/REVISION/TASK.json, whose writers wait for one another.

    mteb rewrites the model's metadata and settings beside every result: two jobs at once would tear them. Its method
    `alone()` is a context in which no other job reads or writes; results of a task are written after each subset.

    revisions  {task: revision of its data set}: a kept result of another one, which mteb itself would take for it,
               counts as none, and the new one takes its place
    """
    from mteb import ResultCache

    class SharedCache(ResultCache):
        """See `shared_cache`."""

        _inside = 0  # contexts of this process that are open: one may be entered inside another

        @contextmanager
        def alone(self) -> Iterator[None]:
            """Wait for other jobs, and let them wait."""
            with (self.cache_path / ".lock").open("w") as lock:
                if not self._inside:
                    take_lock(lock, "keep mteb's results on another file system, with another output", wait=True)
                self._inside += 1
                try:
                    yield
                finally:
                    self._inside -= 1

        def save_to_cache(self, *given: Any, **options: Any) -> None:
            with self.alone():
                super().save_to_cache(*given, **options)

        def load_task_result(self, *given: Any, **options: Any) -> Any:
            with self.alone():
                kept = super().load_task_result(*given, **options)
            wanted = kept and (revisions or {}).get(kept.task_name)
            return None if wanted and kept.dataset_revision != wanted else kept

    return SharedCache(folder)
