"""The web application: paths, the token, the limit of a body, and errors as each interface words them."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from commonspace.serving.http import gemini, openai
from commonspace.serving.http.bodies import Body, parse
from commonspace.serving.http.errors import (
    Busy,
    NotFound,
    Refused,
    TooLarge,
    TooSlow,
    Unauthorised,
    WrongMethod,
    gemini_error,
    openai_error,
)
from commonspace.serving.http.service import Service

BODY_SECONDS = 60  # that a client may take to send a body
_DRAINED = 4  # limits that a body may reach and still be read to its end: who is cut off does not see the answer
_Answer = Callable[[Any, Any, Any], Awaitable[None]]  # a scope, what receives and what sends, as ASGI has it
_LOG = logging.getLogger("commonspace.serving")


def make_app(service: Service, token: str | None = None) -> FastAPI:
    """The application of a model; with a `token` every request but /health must bring it.

    OpenAI's clients bring it as a bearer token, Gemini's in x-goog-api-key.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        await service.batcher.start()
        yield
        await service.batcher.stop()

    app = FastAPI(title="commonspace", lifespan=living, docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(app)

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Any]]) -> Any:
        try:
            if token is not None and request.url.path != "/health":
                _check_token(request, token)
            return await proceed(request)
        except Refused as refused:
            return _refusal(request, refused)
        except Exception:  # answered here: from a handler it would go on to the server, which drops the connection
            _LOG.exception("a request failed")  # what went wrong inside is not the client's to read
            return _refusal(request, _Failed("the server failed on this request; its log says why"))

    app.add_middleware(_Counted, most=service.limits.connections)
    _add_paths(app, service)
    return app


class _Counted:
    """Lets at most so many requests in at once, to the last byte of their answers; /health is always let in."""

    def __init__(self, app: _Answer, most: int) -> None:
        self.app, self.most, self.inside = app, most, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            await self.app(scope, receive, send)
        elif self.inside >= self.most:
            busy = Busy(f"{self.inside} requests are open and {self.most} may; ask again later")
            await _refusal(Request(scope), busy)(scope, receive, send)
        else:
            self.inside += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self.inside -= 1


def _add_paths(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "models": list(service.names)}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return openai.models(service)

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        service.check_name(name)
        return openai.model(name)

    @app.post("/v1/embeddings")
    async def embeddings(request: Request) -> JSONResponse:
        return JSONResponse(await openai.embeddings(service, await _read(request, openai.Request, service)))

    @app.post("/v1/models/{name}:embedContent")
    @app.post("/v1beta/models/{name}:embedContent")
    async def embed_content(name: str, request: Request) -> JSONResponse:
        return JSONResponse(await gemini.embed(service, name, await _read(request, gemini.Request, service)))

    @app.post("/v1/models/{name}:batchEmbedContents")
    @app.post("/v1beta/models/{name}:batchEmbedContents")
    async def batch_embed_contents(name: str, request: Request) -> JSONResponse:
        return JSONResponse(await gemini.batch_embed(service, name, await _read(request, gemini.Batch, service)))


async def _read(request: Request, kind: type[Body], service: Service) -> Body:
    """The body as `kind`; beyond the limit nothing of it is kept."""
    most = service.limits.body_bytes
    data, seen = bytearray(), 0
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > _DRAINED * most:
        raise TooLarge(f"the body has {told} bytes, at most {most} are taken")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                seen += len(chunk)
                if seen <= most:
                    data += chunk
                elif seen > _DRAINED * most:
                    break
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {BODY_SECONDS} s") from error
    if seen > most:
        raise TooLarge(f"the body has {told or 'more than ' + str(most)} bytes, at most {most} are taken")
    async with service.parser:
        return await asyncio.to_thread(parse, data, kind, service.limits.contents)


def _check_token(request: Request, token: str) -> None:
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer.strip() if kind.lower() == "bearer" else request.headers.get("x-goog-api-key", "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise Unauthorised("the request brings no token, or another one (Authorization: Bearer, or x-goog-api-key)")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _refusal(request, error)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_such_path(request: Request, error: HTTPException) -> JSONResponse:
        wrong = WrongMethod if error.status_code == 405 else NotFound
        return _refusal(request, wrong(f"{request.method} {request.url.path:.120}: there is nothing here"))


class _Failed(Refused):
    status = 500


def _refusal(request: Request, refused: Refused) -> JSONResponse:
    """An error in the words of the interface that was asked."""
    is_gemini = request.url.path.endswith((":embedContent", ":batchEmbedContents"))
    body = (gemini_error if is_gemini else openai_error)(refused.status, refused.message, refused.field)
    headers = {"Retry-After": "1"} if refused.status == 503 else {}
    headers |= {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
    return JSONResponse(body, status_code=refused.status, headers=headers)
