"""A record as bytes and back: its JSON and its media as consecutive members of a tar."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Image, Pdf, Video
from commonspace.data.estimate import file_ending
from commonspace.data.sample import Record, Variant
from commonspace.errors import ContentError, DataError

_BLOCK = 512  # tar headers and members are padded to this many bytes


class _Media:
    """The media of one record, named by their order of appearance; equal bytes are kept once."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.members: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}

    def __call__(self, part: Image | Audio | Video | Pdf) -> str:
        if not isinstance(part.source, (bytes, str, Path)):
            kind = type(part.source).__name__
            raise DataError(f"record {self.key!r}: {part.label} is a {kind}; give a path or encoded bytes")
        try:
            data = part.read_bytes()
        except ContentError as error:
            raise DataError(f"record {self.key!r}: {error}") from error
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest not in self._names:
            origin = part.name if isinstance(part.source, bytes) else part.source
            name = f"{len(self._names)}.{file_ending(data, str(origin) if origin else None)}"
            self._names[digest] = name
            self.members[name] = data
        return self._names[digest]


def pack_record(record: Record) -> bytes:
    """The record as tar members, `<key>.json` first; equal records give equal bytes (no times, no owners).

    Raises `DataError` where a medium is neither a readable path nor encoded bytes.
    """
    media = _Media(record.key)
    value = {
        "task": record.task,
        "source": record.source,
        "concept": record.concept,
        "queries": [_variant_json(variant, media) for variant in record.queries],
        "positives": [_variant_json(variant, media) for variant in record.positives],
        "negatives": [content.to_json(media) for content in record.negatives],
        "extra": record.extra,
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    members = {"json": text, **media.members}
    return b"".join(_member(f"{record.key}.{name}", data) for name, data in members.items())


def unpack_record(key: str, shard: str, block: bytes) -> Record:
    """Inverse of `pack_record`; media are bytes named "<shard>:<key>.<n>.<ending>", as errors should name them.

    Raises `ValueError`, `KeyError`, `TypeError`, `tarfile.TarError` or `ContentError` where `block` is no record.
    """
    members: dict[str, bytes] = {}
    position = 0
    while position < len(block):
        info = tarfile.TarInfo.frombuf(block[position : position + _BLOCK], "ascii", "strict")
        position += _BLOCK
        members[f"{shard}:{info.name}"] = block[position : position + info.size]
        position += info.size + -info.size % _BLOCK
    prefix = f"{shard}:{key}."
    value = json.loads(members[f"{prefix}json"])

    def content(items: list[Any]) -> Content:
        if all(isinstance(item, str) for item in items):  # most variants, and the bulk of the time
            return Content(*items)
        return Content.from_json(_with_prefix(items, prefix), members.__getitem__)

    return Record(
        key=key,
        task=value["task"],
        source=value["source"],
        concept=value["concept"],
        queries=tuple(Variant(content(item["content"]), item["language"]) for item in value["queries"]),
        positives=tuple(Variant(content(item["content"]), item["language"]) for item in value["positives"]),
        negatives=tuple(content(items) for items in value["negatives"]),
        extra=value["extra"],
    )


def _variant_json(variant: Variant, media: _Media) -> dict[str, Any]:
    return {"language": variant.language, "content": variant.content.to_json(media)}


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)


def _with_prefix(item: Any, prefix: str) -> Any:
    """The JSON form of a content with its media named in full."""
    if isinstance(item, list):
        return [_with_prefix(inner, prefix) for inner in item]
    if isinstance(item, dict):
        return {
            kind: prefix + value if kind in ("image", "audio", "video", "pdf") else _with_prefix(value, prefix)
            for kind, value in item.items()
        }
    return item
