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
        "head_init": "identity",
        "vision_trainable_stages": 0,
        **changes,
    }


def test_options_that_say_what_the_folder_says_pass():
    embedder = tiny_embedder()
    _check_against_folder(embedder, options(embedder), "models/x")


@pytest.mark.parametrize(
    "changes", [{"head_init": "random"}, {"vision_trainable_stages": 1}, {"pooling": "last"}, {"image_grid": 3}]
)
def test_options_that_cannot_take_effect_are_refused(changes):
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="models/x"):
        _check_against_folder(embedder, options(embedder, **changes), "models/x")
