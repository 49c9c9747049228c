"""The job `benchmark`: measure a bundle of this device, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgeward.errors import EdgewardError
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.bench.child import Limits, available_bytes, measure_alone
from edgeward.targets.bench.host import machine
from edgeward.targets.bench.predicted import Predictor, open_predictor
from edgeward.targets.bench.record import now, record_of
from edgeward.targets.bench.request import Request, Sweep
from edgeward.targets.bench.thin import fitted

from ...protocol.benchmark import Benchmark, read_benchmark
from ...protocol.jobs import MAX_RESULT_BYTES
from ..home import Home
from ..store import Store
from .order import Order, RefusedJobError


def run(order: Order) -> dict[str, Any]:
    """Return the record, with the device, its target and what it served meanwhile."""
    wanted = read_benchmark(order.job.arguments)
    bundle = kept_bundle(Store(Home(Path(order.home))), wanted.bundle)
    request = _request(bundle, wanted)
    memory = min(available_bytes(), wanted.memory_bytes or sys.maxsize)
    limits = Limits(order.job.timeout_seconds, memory, sys.executable)
    moment, others = now(), machine().load_average
    record = record_of(bundle, request, measure_alone(request, limits), moment, others)
    record |= _predictor(bundle, order.target).beside(record)
    about = {
        "device": order.job.device,
        "device_target": order.target,
        "served_meanwhile": order.serving,
        "job": order.job.id,
    }
    return fitted({**record, **about}, MAX_RESULT_BYTES)


def kept_bundle(store: Store, named: str | None) -> Bundle:
    """Return the active bundle, or the one that a digest or its beginning names.

    Raises RefusedJobError where this device has no such bundle.
    """
    if named is None:
        digest = store.active()
        if digest is None:
            raise RefusedJobError("No bundle is active on this device")
        return store.open(digest, "sizes")
    has = store.digests()
    found = [digest for digest in has if digest.startswith(named)]
    if len(found) != 1:
        raise RefusedJobError(
            f"The bundle {named[:12]} is not on this device"
            if not found
            else f"{named} begins the digests of {len(found)} bundles",
            why=f"it has {', '.join(each[:12] for each in has) or 'none'}",
        )
    return store.open(found[0], "sizes")


def _request(bundle: Bundle, wanted: Benchmark) -> Request:
    shared = Request(
        bundle=str(bundle.path),
        least_queries=wanted.least_queries,
        least_seconds=wanted.least_seconds,
        rate=wanted.rate,
        bound_ms=wanted.bound_ms,
        seed=wanted.seed,
    )
    (request,) = Sweep(
        shared,
        scenarios=(wanted.scenario,),
        threads=(wanted.threads,),
        batches=(wanted.batch,),
        prompts=(wanted.prompt,),
        generated=(wanted.generate,),
    ).requests()
    return request


def _predictor(bundle: Bundle, target: str | None) -> Predictor:
    """A record is worth having where no profile here describes the device."""
    try:
        return open_predictor(bundle, target)
    except EdgewardError:
        return Predictor(bundle, [], None)
