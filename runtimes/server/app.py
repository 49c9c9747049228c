"""The routes: embeddings, models, health, metrics."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edgeward.errors import EdgewardError, UsageError
from edgeward.runtimes.session import Embedded, Session

from .messages import EmbeddingRequest
from .metrics import prometheus

MAX_BODY = 8 << 20
_CLIENT_LEFT = 499


def make_app(session: Session) -> Starlette:
    """Return the application that serves one session."""
    app = Starlette(
        exception_handlers={HTTPException: _http_refusal, Exception: _failure},
        routes=[
            Route("/healthz", _health),
            Route("/metrics", _metrics),
            Route("/v1/models", _models),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
        ],
    )
    app.state.session = session
    return app


async def _health(request: Request) -> Response:
    session: Session = request.app.state.session
    return JSONResponse({"status": "ok", "bundle": session.bundle.digest})


async def _metrics(request: Request) -> Response:
    session: Session = request.app.state.session
    return PlainTextResponse(prometheus(session.stats(), session.bundle))


async def _models(request: Request) -> Response:
    session: Session = request.app.state.session
    entry = {"id": session.bundle.manifest.name, "object": "model", "owned_by": "edgeward"}
    return JSONResponse({"object": "list", "data": [entry]})


async def _embeddings(request: Request) -> Response:
    session: Session = request.app.state.session
    arrived = time.perf_counter()
    try:
        asked = EmbeddingRequest.model_validate_json(await _body(request))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return _refusal(f"{where}: {first['msg']}" if where else str(first["msg"]), 400)
    except UsageError as error:
        return _refusal(error.what, 413)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_LEFT)

    def embed() -> Embedded:
        queued = (time.perf_counter() - arrived) * 1e3
        _refuse_other_dimensions(session, asked.dimensions)
        return session.embed_counted(asked.texts, prompt=asked.prompt_name, queued_ms=queued)

    try:
        embedded = await run_in_threadpool(embed)
    except EdgewardError as error:
        return _refusal(str(error), 400 if isinstance(error, UsageError) else 500)
    data = [
        {"object": "embedding", "index": i, "embedding": _encode(row, asked.encoding_format)}
        for i, row in enumerate(embedded.vectors)
    ]
    name = session.bundle.manifest.name
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})


def _refuse_other_dimensions(session: Session, asked: int | None) -> None:
    if asked is not None and asked != session.embedder.dimensions:
        raise UsageError(f"The model gives {session.embedder.dimensions} dimensions, not {asked}")


async def _body(request: Request) -> bytes:
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 15 or int(stated) > MAX_BODY:
        raise UsageError(f"The body is larger than {MAX_BODY} bytes")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise UsageError(f"The body is larger than {MAX_BODY} bytes")
    return bytes(body)


async def _http_refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return await _failure(request, error)
    message = f"{error.detail}: {request.method} {request.url.path}"
    return _refusal(message, error.status_code, error.headers)


async def _failure(_request: Request, _error: Exception) -> Response:
    return _refusal("the server failed, its log says why", 500)


def _encode(row: Any, encoding: str) -> Any:
    return base64.b64encode(row.tobytes()).decode() if encoding == "base64" else row.tolist()


def _refusal(message: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind}}
    return JSONResponse(body, status_code=status, headers=headers)
