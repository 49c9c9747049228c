"""What devices fetch: trust, desired documents, releases, manifests, files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from edgeward._version import __version__

from ..protocol.topics import check_device_id
from .http_service import service_of
from .problems import NotThereError
from .ranges import Part, UnsatisfiableError, wanted_part

CHUNK = 256 * 1024


async def healthz(_: Request) -> Response:
    """Say that the controller is up."""
    return JSONResponse({"status": "ok", "version": __version__})


async def trust(request: Request) -> Response:
    """Say what a device pins when it joins."""
    service = service_of(request)
    keys = await run_in_threadpool(service.intake.trusted)
    return JSONResponse(
        {
            "controller_keys": [key.hex for key in service.controller_keys],
            "release_keys": [key.hex for key in keys],
            "mqtt": service.mqtt_url,
        }
    )


async def desired(request: Request) -> Response:
    """Give a device's sealed desired document."""
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    record = await run_in_threadpool(service.store.desired, device_id)
    if record is None:
        raise NotThereError(f"Nothing is desired of {device_id}")
    etag = f'"{record.document.generation}"'
    return Response(record.envelope, media_type="application/json", headers={"etag": etag})


async def jobs(request: Request) -> Response:
    """Give a device's sealed jobs, and the ids of those whose reports are awaited."""
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    data = await run_in_threadpool(service.controller.foreman.list_for, device_id)
    return Response(data, media_type="application/json")


async def release(request: Request) -> Response:
    """Give a sealed release."""
    service, digest = service_of(request), request.path_params["digest"]
    record = await run_in_threadpool(service.store.release, digest)
    if record is None:
        raise NotThereError(f"No release {digest[:64]!a}")
    return Response(record.envelope, media_type="application/json")


async def manifest(request: Request) -> Response:
    """Give a bundle's manifest as its bytes are."""
    service, digest = service_of(request), request.path_params["digest"]
    path = await run_in_threadpool(service.intake.manifest_path, digest)
    if path is None:
        raise NotThereError(f"No manifest {digest}")
    data = await run_in_threadpool(path.read_bytes)
    return Response(data, media_type="application/json", headers={"etag": f'"{digest}"'})


async def blob(request: Request) -> Response:
    """Give a file or a part of it."""
    service, digest = service_of(request), request.path_params["digest"]
    path = await run_in_threadpool(service.blobs.path, digest)
    if path is None:
        raise NotThereError(f"No file {digest}")
    size = (await run_in_threadpool(path.stat)).st_size
    etag = f'"{digest}"'
    headers = {"etag": etag, "accept-ranges": "bytes", "content-type": "application/octet-stream"}
    try:
        part = wanted_part(_range_header(request, etag), size)
    except UnsatisfiableError:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    if part is not None:
        headers["content-range"] = part.content_range
    part, code = part or Part(0, size, size), 206 if part else 200
    headers["content-length"] = str(part.length)
    if request.method == "HEAD":
        return Response(status_code=code, headers=headers)
    return StreamingResponse(_read(path, part), status_code=code, headers=headers)


def _range_header(request: Request, etag: str) -> str | None:
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition in (None, etag) else None


async def _read(path: Path, part: Part) -> AsyncIterator[bytes]:
    file = await run_in_threadpool(path.open, "rb")
    try:
        await run_in_threadpool(file.seek, part.start)
        left = part.length
        while left and (piece := await run_in_threadpool(file.read, min(CHUNK, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()
