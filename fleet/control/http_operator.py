"""What operators ask: releases, devices, figures, rollouts."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgeward._version import __version__
from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import MAX_MANIFEST_BYTES

from ..protocol.topics import check_device_id
from ..protocol.wire import MAX_MESSAGE_BYTES
from . import views
from .address import check_label
from .http_service import body_of, service_of
from .problems import NotThereError
from .requests import (
    HaltRequest,
    JobRequest,
    LabelsRequest,
    ResumeRequest,
    RolloutRequest,
    read_body,
)

MAX_BLOB_BYTES = 2**40
MAX_LISTED = 500


async def put_blob(request: Request) -> Response:
    """Take a file whose sha256 is its name."""
    service, digest = service_of(request), request.path_params["digest"]
    if await run_in_threadpool(service.blobs.path, digest):
        return JSONResponse({"digest": digest, "stored": False})
    upload = await run_in_threadpool(service.blobs.receive, digest, MAX_BLOB_BYTES)
    try:
        async for piece in request.stream():
            await run_in_threadpool(upload.write, piece)
        await run_in_threadpool(upload.finish)
    finally:
        await run_in_threadpool(upload.abort)
    return JSONResponse({"digest": digest, "stored": True, "size": upload.size}, 201)


async def put_manifest(request: Request) -> Response:
    """Take a bundle's manifest."""
    data = await body_of(request, MAX_MANIFEST_BYTES)
    digest = request.path_params["digest"]
    await run_in_threadpool(service_of(request).intake.put_manifest, digest, data)
    return JSONResponse({"digest": digest}, 201)


async def post_release(request: Request) -> Response:
    """Take a signed release."""
    data = await body_of(request, MAX_MESSAGE_BYTES)
    record, is_new = await run_in_threadpool(service_of(request).intake.add_release, data)
    return JSONResponse(views.release_view(record), 201 if is_new else 200)


async def releases(request: Request) -> Response:
    """List the releases."""
    found = await run_in_threadpool(service_of(request).store.releases)
    return JSONResponse([views.release_view(record) for record in found])


async def devices(request: Request) -> Response:
    """List the devices."""
    found = await run_in_threadpool(service_of(request).store.devices)
    return JSONResponse([views.device_view(record) for record in found])


async def device(request: Request) -> Response:
    """Show one device."""
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    record = await run_in_threadpool(service.store.device, device_id)
    if record is None:
        raise NotThereError(f"No device {device_id}", next="edgeward fleet devices")
    return JSONResponse(await run_in_threadpool(views.device_detail, service.store, record))


async def forget_device(request: Request) -> Response:
    """Forget a device; it is known again once it reports."""
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    if not await run_in_threadpool(service.store.forget_device, device_id):
        raise NotThereError(f"No device {device_id}", next="edgeward fleet devices")
    return JSONResponse({"id": device_id, "forgotten": True})


async def labels(request: Request) -> Response:
    """Add and remove a device's labels."""
    wanted = read_body(await body_of(request, MAX_MESSAGE_BYTES), LabelsRequest)
    names = [check_label(label) for label in (*wanted.add, *wanted.remove)]
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    if await run_in_threadpool(service.store.device, device_id) is None:
        raise NotThereError(f"No device {device_id}", next="edgeward fleet devices")
    add, remove = names[: len(wanted.add)], names[len(wanted.add) :]
    await run_in_threadpool(service.store.set_labels, device_id, add, remove)
    return await device(request)


async def create_job(request: Request) -> Response:
    """Ask a device for a job."""
    wanted = read_body(await body_of(request, MAX_MESSAGE_BYTES), JobRequest)
    service, device_id = service_of(request), check_device_id(request.path_params["id"])
    record = await run_in_threadpool(service.controller.create_job, device_id, wanted)
    return JSONResponse(views.job_view(record, service.clock()), 201)


async def jobs(request: Request) -> Response:
    """List the jobs of all devices, or of one."""
    service, device_id = service_of(request), request.query_params.get("device")
    if device_id is not None:
        check_device_id(device_id)
    found = await run_in_threadpool(partial(service.store.jobs, device_id, limit=MAX_LISTED))
    return JSONResponse([views.job_view(record, service.clock()) for record in found])


async def job(request: Request) -> Response:
    """Show a job with what came of it."""
    service = service_of(request)
    record = await run_in_threadpool(service.store.job, request.path_params["id"])
    if record is None:
        raise NotThereError("No such job", next="edgeward fleet jobs")
    return JSONResponse(views.job_detail(record, service.clock()))


async def stats(request: Request) -> Response:
    """Show latency, load, memory and errors by device, bundle or both."""
    service, by = service_of(request), request.query_params.get("by", "device,bundle")
    if by not in views.STATS_BY:
        raise UsageError(f"Cannot group by {by[:80]!a}", why="one of " + ", ".join(views.STATS_BY))
    since = service.clock() - _seconds(request.query_params.get("seconds", "86400"))
    return JSONResponse(await run_in_threadpool(views.stats_view, service.store, by, since))


async def status(request: Request) -> Response:
    """Show the controller's own figures."""
    service = service_of(request)
    found = await run_in_threadpool(service.store.devices)
    running = await run_in_threadpool(service.store.rollouts)
    return JSONResponse(
        {
            "version": __version__,
            "mqtt": service.mqtt_url,
            "devices": len(found),
            "online": sum(record.online for record in found),
            "rollouts_running": sum(record.phase.value == "running" for record in running),
            "messages_refused": service.controller.refusals.total,
            "messages_dropped": service.controller.dropped,
        }
    )


async def events(request: Request) -> Response:
    """Show the latest lines of all timelines."""
    found = await run_in_threadpool(service_of(request).store.events)
    return JSONResponse([asdict(event) for event in found])


async def rollouts(request: Request) -> Response:
    """List the rollouts."""
    service = service_of(request)
    conductor, now = service.controller.conductor, service.clock()

    def listed() -> list[dict[str, Any]]:
        return [views.rollout_view(conductor, r, now) for r in service.store.rollouts()]

    return JSONResponse(await run_in_threadpool(listed))


async def rollout(request: Request) -> Response:
    """Show a rollout, its devices and its timeline."""
    return await _shown(request, request.path_params["id"])


async def create_rollout(request: Request) -> Response:
    """Roll a release out."""
    wanted = read_body(await body_of(request, MAX_MESSAGE_BYTES), RolloutRequest)
    create = service_of(request).controller.create_rollout
    record = await run_in_threadpool(
        create, wanted.model, wanted.version, wanted.to, wanted.rules, wanted.policy
    )
    return await _shown(request, record.id, 201)


async def halt(request: Request) -> Response:
    """Halt a rollout."""
    wanted = read_body(await body_of(request, MAX_MESSAGE_BYTES), HaltRequest)
    halted = service_of(request).controller.halt
    record = await run_in_threadpool(halted, request.path_params["id"], wanted.reason)
    return await _shown(request, record.id)


async def resume(request: Request) -> Response:
    """Resume a rollout."""
    wanted = read_body(await body_of(request, MAX_MESSAGE_BYTES), ResumeRequest)
    resumed = service_of(request).controller.resume
    record = await run_in_threadpool(resumed, request.path_params["id"], wanted.retry_failed)
    return await _shown(request, record.id)


async def _shown(request: Request, rollout_id: str, code: int = 200) -> Response:
    service = service_of(request)
    conductor, now = service.controller.conductor, service.clock()

    def detail() -> dict[str, Any]:
        return views.rollout_detail(conductor, conductor.find(rollout_id), now)

    return JSONResponse(await run_in_threadpool(detail), code)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 10 * 365 * 86_400:
        raise UsageError(f"Not a number of seconds: {text[:40]!a}")
    return seconds
