"""`commonspace embed`: contents in, one unit vector each out, in chunks that outlive an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import Progress

from commonspace.errors import ContentError, DataError
from commonspace.files import write_text
from commonspace.serving.chunks import Chunk, Cut, Failure, KeptChunks
from commonspace.serving.entries import Entry, read_files, read_lines
from commonspace.serving.vectors import Form, write_vectors

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from commonspace.models.embedder import Embedder
    from commonspace.models.precision import InPrecision
    from commonspace.processing.pieces import Pieces
    from commonspace.processing.processor import OnLimit


def main(config: DictConfig) -> None:
    """Embed every line of `input` or each of `files`, in order, and write `output` whole or not at all.

    Raises ContentError or DataError naming the first line that has no vector, unless `on_error` is skip: then those
    are listed in OUTPUT.failures.jsonl. What `on_limit` cuts is listed in OUTPUT.truncated.jsonl.
    """
    from commonspace.models.folder import folder_fingerprint
    from commonspace.models.precision import resolve_precision

    entries = read_lines(Path(config.input)) if config.input else read_files(list(config.files))
    if config.on_error == "stop":
        for entry in entries:
            if entry.error:
                raise entry.error
    output = Path(config.output)
    precision = resolve_precision(config.precision)  # chunks of one output are of one precision
    options = {name: config[name] for name in ("dim", "batch_tokens", "on_limit")}
    options |= {"precision": precision, **config.prefix}
    about = {"model": folder_fingerprint(Path(config.embedder)), **options}
    kept = KeptChunks(output, json.dumps(about))
    work = Embedding(Path(config.embedder), **options, skip=config.on_error == "skip")
    size, failures, cuts = _fill(work, kept, _chunks(entries, config.chunk))
    if len(failures) == len(entries):
        raise DataError(f"{output}: none of {len(entries)} contents has a vector; the first: {failures[0].error}")
    _write_notes(failures_path(output), failures)
    _write_notes(truncated_path(output), cuts)
    filled = ((part, kept.finished(number, part)) for number, part in enumerate(_chunks(entries, config.chunk)))
    write_vectors(output, filled, Form(len(entries), size, {**about, "dim": size}))
    kept.clear()
    print(_closing(output, len(entries), size, len(failures), len(cuts)))


@dataclass(frozen=True)
class Embedding:
    """How entries become vectors; the model is loaded when the first entry asks for it.

    With `skip` an entry that has no vector is a failure of its chunk, else an error that names it.
    """

    folder: Path
    dim: int | None = None
    task: str | None = None
    role: str | None = None
    batch_tokens: int = 8192
    precision: str = "32-true"
    on_limit: OnLimit = "error"
    skip: bool = False

    @cached_property
    def model(self) -> Embedder:
        from commonspace.models.device import best_device
        from commonspace.models.embedder import Embedder

        model = Embedder.load(self.folder, on_limit=self.on_limit).to(best_device())
        model.check_dim(self.dim)
        return model

    @cached_property
    def cast(self) -> InPrecision:
        """The model, embedding in `precision`."""
        from commonspace.models.precision import InPrecision

        return InPrecision(self.model, self.precision)

    def chunk(self, entries: Sequence[Entry]) -> Chunk:
        """Vectors [n, E] of entries, with the failures and cuts among them."""
        from commonspace.models.embedder import truncate

        pieces, failures = {}, []
        for row, entry in enumerate(entries):
            try:
                pieces[row] = self._pieces(entry)
            except (ContentError, DataError) as error:
                if not self.skip:
                    raise
                failures.append(Failure(entry.line, entry.key, str(error)))
        out_NE = np.full((len(entries), self.dim or self.model.embedding_size), np.nan, np.float32)
        if pieces:
            vectors_NE = self.cast.embed_pieces(list(pieces.values()), batch_tokens=self.batch_tokens)
            out_NE[list(pieces)] = truncate(vectors_NE, self.dim).numpy() if self.dim else vectors_NE.numpy()
        cut = {row: "; ".join(one.truncated) for row, one in pieces.items() if one.truncated}
        cuts = tuple(Cut(entries[row].line, entries[row].key, told) for row, told in cut.items())
        return Chunk(out_NE, tuple(failures), cuts)

    def _pieces(self, entry: Entry) -> Pieces:
        if entry.content is None:
            raise entry.error or DataError(f"{entry.where}: holds no content")
        try:
            pieces = self.model.processor(entry.content, task=self.task, role=self.role)
        except ContentError as error:
            raise ContentError(entry.named(error)) from error
        kinds = {piece.kind for piece in pieces.pieces} & {"image", "audio"}
        if missing := kinds - set(self.model.backbone.towers()):
            names = " and no ".join(sorted(missing))
            raise ContentError(f"{entry.where}: {self.folder} has no {names} tower; use a model that reads it")
        return pieces


def _chunks(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    return (entries[start : start + size] for start in range(0, len(entries), size))


def _fill(work: Embedding, kept: KeptChunks, chunks: Iterator[Sequence[Entry]]) -> tuple[int, list[Failure], list[Cut]]:
    """Make every chunk that an earlier call has not left; returns the vectors' size, all failures and all cuts."""
    failures: list[Failure] = []
    cuts: list[Cut] = []
    size = reused = 0
    parts = list(chunks)
    with Progress() as bar:
        step = bar.add_task("embedding", total=sum(map(len, parts)))
        for number, entries in enumerate(parts):
            chunk = kept.get(number, entries)
            if chunk is None or (chunk.failures and not work.skip):  # without skip the error is to be raised again
                chunk = work.chunk(entries)
                kept.put(number, entries, chunk)
            else:
                reused += len(entries)
            failures += chunk.failures
            cuts += chunk.cuts
            size = chunk.vectors_NE.shape[1]
            bar.advance(step, len(entries))
    if reused:
        print(f"{reused} contents were embedded by an earlier call")
    return size, failures, cuts


def _write_notes(path: Path, notes: Sequence[Failure | Cut]) -> None:
    """One a line; the file of an earlier call goes where there are none."""
    if not notes:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(json.dumps(asdict(note), ensure_ascii=False) + "\n" for note in notes))


def failures_path(output: Path) -> Path:
    """Where the failures of an output are listed."""
    return output.with_name(f"{output.name}.failures.jsonl")


def truncated_path(output: Path) -> Path:
    """Where what was left out of contents is listed."""
    return output.with_name(f"{output.name}.truncated.jsonl")


def _closing(output: Path, entries: int, size: int, failed: int, cut: int) -> str:
    told = [f"{output}: {entries - failed} vectors of {size}"]
    if failed:
        place = "their rows are NaN" if output.suffix == ".npy" else "they have no rows"
        told.append(f"{failed} of {entries} failed, {place}: {failures_path(output)}")
    if cut:
        told.append(f"{cut} not embedded whole: {truncated_path(output)}")
    return "; ".join(told)
