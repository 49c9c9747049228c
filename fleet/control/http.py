"""The controller over HTTP: what devices fetch, what operators ask.

Devices read without a token for as long as the server listens on loopback only; operators
carry a bearer token. Every refusal is JSON: error, what, why, next.
"""

from __future__ import annotations

import logging
import sqlite3

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgeward.errors import EdgewardError

from . import http_device as device
from . import http_operator as asked
from .http_service import Service, operator
from .problems import status_of, to_json

log = logging.getLogger(__name__)


def make_app(service: Service) -> Starlette:
    """Return the ASGI application."""
    handlers = {
        EdgewardError: _refused,
        HTTPException: _unknown_route,
        ClientDisconnect: _gone,
        Exception: _failed,
    }
    app = Starlette(routes=_routes(), exception_handlers=handlers)  # type: ignore[arg-type]  # handlers are invariant in the exception's type
    app.state.service = service
    return app


def _routes() -> list[Route]:
    return [
        Route("/healthz", device.healthz),
        Route("/v1/trust", device.trust),
        Route("/v1/devices/{id}/desired", device.desired),
        Route("/v1/devices/{id}/jobs", device.jobs),
        Route("/v1/releases/{digest}", device.release),
        Route("/v1/manifests/{digest}", device.manifest),
        Route("/v1/blobs/{digest}", device.blob),
        Route("/v1/blobs/{digest}", operator(asked.put_blob), methods=["PUT"]),
        Route("/v1/manifests/{digest}", operator(asked.put_manifest), methods=["PUT"]),
        Route("/v1/releases", operator(asked.post_release), methods=["POST"]),
        Route("/v1/releases", operator(asked.releases)),
        Route("/v1/devices", operator(asked.devices)),
        Route("/v1/devices/{id}", operator(asked.device)),
        Route("/v1/devices/{id}", operator(asked.forget_device), methods=["DELETE"]),
        Route("/v1/devices/{id}/labels", operator(asked.labels), methods=["POST"]),
        Route("/v1/devices/{id}/jobs", operator(asked.create_job), methods=["POST"]),
        Route("/v1/jobs", operator(asked.jobs)),
        Route("/v1/jobs/{id}", operator(asked.job)),
        Route("/v1/stats", operator(asked.stats)),
        Route("/v1/status", operator(asked.status)),
        Route("/v1/events", operator(asked.events)),
        Route("/v1/rollouts", operator(asked.rollouts)),
        Route("/v1/rollouts", operator(asked.create_rollout), methods=["POST"]),
        Route("/v1/rollouts/{id}", operator(asked.rollout)),
        Route("/v1/rollouts/{id}/halt", operator(asked.halt), methods=["POST"]),
        Route("/v1/rollouts/{id}/resume", operator(asked.resume), methods=["POST"]),
    ]


async def _refused(_: Request, error: EdgewardError) -> Response:
    code = status_of(error)
    headers = {"www-authenticate": "Bearer"} if code == 401 else {}
    return JSONResponse(to_json(error), code, headers=headers)


async def _unknown_route(_: Request, error: HTTPException) -> Response:
    body = {"error": "NotThereError", "what": str(error.detail), "why": "", "next": ""}
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _gone(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    is_storage = isinstance(error, (OSError, sqlite3.Error))
    what = "The controller could not read or write" if is_storage else "The controller failed"
    body = {"error": "FleetError", "what": what, "why": type(error).__name__, "next": "its log"}
    return JSONResponse(body, 500)
