"""The paper's data sets in small, a model of ours, and what a row of a table asks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from commonspace.configuration import config_folder
from commonspace.evaluation.paper.pools import Pool
from commonspace.evaluation.paper.rows import pool_of, read_table
from tests.evaluation.paper.published import write_all
from tests.models.tiny import tiny_embedder


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_embedder().save(path)
    return path


def table_of(name: str) -> Any:
    config = OmegaConf.load(config_folder() / "experiment/paper" / f"{name}.yaml")
    return read_table(name, OmegaConf.to_container(config.sets), OmegaConf.to_container(config.rows))


def pool(root: Path, name: str, row: str) -> Pool:
    table = table_of(name)
    (wanted,) = (one for one in table.rows if one.row == row)
    return pool_of(wanted, table.sets[wanted.set], lambda data: root / data.folder, "error")
