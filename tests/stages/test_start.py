"""What a stage may not ask of the model folder it starts from."""

import pytest

from commonspace.errors import ConfigError
from commonspace.stages.start import _check_against_folder
from tests.models.tiny import tiny_embedder


def options(embedder, **changes) -> dict:
    return {
        **embedder.processor.preprocessing.to_json(),
        "embedding_size": 32,
        "matryoshka_sizes": [8, 16, 32],
        "pooling": "mean",
        "text_hidden": 0,
        "connector_hidden": 64,
        "positions": "limit",
        "max_positions": None,
        "merge_beyond": None,
        "window": None,
        "global_every": None,
        "name": "compact",
        "head_init": "identity",
        "backbone": "multilingual-e5-small",
        "vision": "efficientnet-lite0",
        "audio": "whisper-tiny.en",
        **changes,
    }


def test_options_that_say_what_the_folder_says_pass():
    embedder = tiny_embedder()
    _check_against_folder(embedder, options(embedder), "models/x", "package")


@pytest.mark.parametrize(
    "changes",
    [
        {"head_init": "random"},
        {"pooling": "last"},
        {"text_hidden": 8},
        {"name": "causal_lm"},
        {"connector_hidden": 32},
        {"merge_beyond": 64},
        {"window": 64, "global_every": 2},
        {"image_grid": 3},
        {"backbone": "another"},
        {"vision": None},
        {"audio": "another"},
    ],
)
def test_options_that_cannot_take_effect_are_refused(changes):
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="models/x"):
        _check_against_folder(embedder, options(embedder, **changes), "models/x", "package")


def test_a_folder_without_a_tower_goes_with_a_config_without_it():
    embedder = tiny_embedder()
    embedder.backbone.vision = None
    _check_against_folder(embedder, options(embedder, vision=None), "models/x", "package")
    with pytest.raises(ConfigError, match="model.vision"):
        _check_against_folder(embedder, options(embedder), "models/x", "package")


def test_a_source_of_weights_beside_a_folder_is_refused():
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="weights=hub"):
        _check_against_folder(embedder, options(embedder), "models/x", "hub")
