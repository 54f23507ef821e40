from __future__ import annotations

from pathlib import Path

import pytest
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from commonspace.errors import ConfigError
from commonspace.tracking.identity import Identity
from commonspace.tracking.logger import make_loggers

IDENTITY = Identity("abcd-1", "abcd", "1", 0.0)
OFFLINE = {"mode": "offline", "project": "commonspace", "group": "tiny", "tags": ["one"]}


def test_the_config_says_which_loggers_there_are(tmp_path: Path) -> None:
    kinds = {
        (True, False): [CSVLogger],
        (False, True): [WandbLogger],
        (True, True): [CSVLogger, WandbLogger],
    }
    for (csv, wandb), expected in kinds.items():
        config = {"name": "x", "logger": {"csv": csv, "wandb": OFFLINE if wandb else None}}
        assert [type(logger) for logger in make_loggers(tmp_path, config, IDENTITY)] == expected


def test_no_logger_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither csv nor wandb"):
        make_loggers(tmp_path, {"logger": {"csv": False, "wandb": None}}, IDENTITY)


def test_nothing_is_written_before_something_is_logged(tmp_path: Path) -> None:
    make_loggers(tmp_path, {"name": "x", "logger": {"csv": True, "wandb": OFFLINE}}, IDENTITY)
    assert not list(tmp_path.iterdir())
