"""What the HTTP endpoints act on, and how they read a request."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from ..trust.keys import PublicKey
from .blobs import Blobs
from .controller import Controller
from .intake import Intake
from .problems import DeniedError, TooLargeError
from .store import Store

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the endpoints act on."""

    store: Store
    controller: Controller
    blobs: Blobs
    intake: Intake
    token: str
    controller_keys: tuple[PublicKey, ...]
    mqtt_url: str
    clock: Callable[[], float] = field(default=time.time)


def service_of(request: Request) -> Service:
    """Return the service that the application was made with."""
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError("the application was not made by make_app")
    return service


def operator(endpoint: Endpoint) -> Endpoint:
    """Let only who carries the token reach `endpoint`."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "")
        wanted = f"Bearer {service_of(request).token}"
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            raise DeniedError(
                "The operator's token is missing or wrong",
                why="it lies in operator.token in the fleet home",
            )
        return await endpoint(request)

    return guarded


async def body_of(request: Request, limit: int) -> bytes:
    """Return the request's body; TooLargeError above `limit` bytes, read no further."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLargeError("The request is too large", why=f"at most {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
