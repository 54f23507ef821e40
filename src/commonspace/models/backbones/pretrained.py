"""Pretrained transformers of a folder in the Hugging Face layout: safetensors only, whole or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from commonspace.errors import WeightsError


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' warnings."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def model_type(folder: Path) -> str:
    """What config.json says the weights are."""
    try:
        return str(json.loads((folder / "config.json").read_text()).get("model_type"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}/config.json: cannot be read ({error}); copy the folder again") from error


def read_config(kind: type[PreTrainedConfig], folder: Path) -> PreTrainedConfig:
    """The config of a folder as an instance of `kind`."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a config's own validation raises what it likes
        raise WeightsError(f"{folder}/config.json: is no {kind.__name__} ({error})") from error


def read_model(
    kind: type[PreTrainedModel], folder: Path, config: PreTrainedConfig, attention: str | None = "sdpa"
) -> PreTrainedModel:
    """The float32 weights of a folder in an instance of `kind`; WeightsError where one is missing or does not fit.

    `attention` names transformers' implementation; None leaves the choice to it, part by part.
    """
    try:
        with quiet():  # the language head and towers that are left on disk are no news
            model, report = kind.from_pretrained(
                folder, config=config, dtype=torch.float32, attn_implementation=attention, use_safetensors=True,
                local_files_only=True, output_loading_info=True,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: does not hold the weights of a {kind.__name__} ({error})") from error
    if lost := sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])]):
        raise WeightsError(f"{folder}: lacks {', '.join(lost[:3])} of a {kind.__name__}; copy the folder again")
    return model
