"""Record keys: readable, unique for what they were made from, and safe as member names of a tar file."""

from __future__ import annotations

import hashlib
import re


def record_key(source: str, *parts: str) -> str:
    """`source-slug-hash`: ASCII letters, digits and hyphens only; the hash keeps "a_b" and "a-b" apart."""
    path = "/".join(parts)
    slug = re.sub(r"[^a-z0-9]+", "-", path.casefold()).strip("-")[-60:].strip("-")
    digest = hashlib.blake2b(path.encode(), digest_size=4).hexdigest()
    return "-".join(part for part in (source, slug, digest) if part)
