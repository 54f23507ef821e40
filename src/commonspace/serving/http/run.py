"""`commonspace serve`: a model behind the OpenAI and the Gemini embeddings forms, on this machine alone by default."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from commonspace.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from commonspace.serving.http.service import Service

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(config: DictConfig) -> None:
    """Serve `embedder` until interrupted.

    Raises ConfigError where the packages are missing, where the variable that `token_variable` names is empty, or where
    other machines could ask without a token.
    """
    token = token_of(config.token_variable)
    if config.host not in _LOOPBACK and token is None:
        raise ConfigError(
            f"host={config.host}: other machines could ask; name the environment variable that holds a token by "
            "token_variable, or leave host at 127.0.0.1"
        )
    try:
        import uvicorn

        from commonspace.serving.http.app import make_app
    except ImportError as error:
        raise ConfigError(f"serve: {error}; run make setup, or pip install -e '.[serving]'") from error
    service = make_service(config)
    print(f"{', '.join(service.names)} at http://{config.host}:{config.port}/v1")
    with suppress(KeyboardInterrupt):  # which uvicorn raises again, once it has answered who was waiting
        uvicorn.run(
            make_app(service, token),
            host=config.host,
            port=config.port,
            log_level="warning",
            timeout_graceful_shutdown=10,
        )


def make_service(config: DictConfig) -> Service:
    """The model of a config, loaded, under its names and limits."""
    from commonspace.models.device import best_device
    from commonspace.models.embedder import Embedder
    from commonspace.serving.http.service import Limits, Service

    model = Embedder.load(Path(config.embedder), on_limit=config.on_limit).to(best_device())
    limits = {name: config.limits[name] for name in ("contents", "waiting", "connections")}
    limits |= {f"{name}_bytes": round(config.limits[f"{name}_megabytes"] * 2**20) for name in ("body", "media")}
    return Service(
        model,
        names_of(Path(config.embedder), list(config.names)),
        Limits(**limits),
        batch_tokens=config.batch_tokens,
        wait_seconds=config.wait_milliseconds / 1000,
        precision=config.precision,
    )


def names_of(folder: Path, names: list[str]) -> list[str]:
    """What the model is asked for by: `names`, else its folder's, and that with "gemini-" before it.

    Google's client takes a list of parts for one content only of a model whose name holds "gemini".
    """
    return names or [folder.resolve().name, f"gemini-{folder.resolve().name}"]


def token_of(variable: str | None) -> str | None:
    """The token that an environment variable holds; ConfigError where it is named and empty."""
    if variable is None:
        return None
    if not (token := os.environ.get(variable, "").strip()):
        raise ConfigError(f"token_variable: the environment variable {variable} is empty; put a token there")
    return token
