"""commonspace: one native model that embeds text, images, audio, video, documents and any interleaving of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from commonspace.content import Audio, Content, Document, Image, Pdf, Text, Video, content_schema

if TYPE_CHECKING:
    from commonspace.models.embedder import Embedder

__all__ = ["Audio", "Content", "Document", "Embedder", "Image", "Pdf", "Text", "Video", "content_schema"]


def __getattr__(name: str) -> object:
    """Import `Embedder` on first use: it brings torch along, and `commonspace --help` must not."""
    if name == "Embedder":
        from commonspace.models.embedder import Embedder

        return Embedder
    raise AttributeError(f"module 'commonspace' has no attribute {name!r}")
