"""Finalizing: a bundle's engine is built once on the device, in a child, whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edgeward.errors import BuildError, DoesNotFitError, IntegrityError, ProofError
from edgeward.runtimes.bundle.canonical import canonical_bytes, parse
from edgeward.runtimes.bundle.durable import sync_tree
from edgeward.runtimes.bundle.read import Bundle, Depth, sha256_of
from edgeward.runtimes.bundle.replace import replace_folder
from edgeward.runtimes.bundle.scratch import scratch_folder
from edgeward.runtimes.child import Ended, run_limited

from .builder import EngineBuilder, Order, available, find_builder, is_importable
from .hardware import Hardware, find_hardware
from .place import Built, Place
from .record import BY_ENGINE, PENDING, PLAN_NAME, RECORD_NAME, Golden, Record
from .wants import Wants, wants_of
from .words import build_error

BUILD_SECONDS = 7200.0
SPACE_FACTOR = 2.5
RESERVE_BYTES = 64 * 2**20
_TIMING_NAME = "timing.cache"
_SELFTEST = (sys.executable, "-m", "edgeward.runtimes.selftest")
_FELL_SHORT = 3


class _MonotonicClock:
    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a build may take; memory in bytes, None for all that the machine has."""

    seconds: float = BUILD_SECONDS
    memory_bytes: int | None = None
    workspace_mib: int | None = None

    @property
    def most_bytes(self) -> int:
        """The memory limit that holds."""
        return self.memory_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build would do: by whom, for what device, where to."""

    bundle: Bundle
    wants: Wants
    builder: EngineBuilder
    hardware: Hardware
    place: Place


@dataclass(frozen=True, slots=True)
class Finalized:
    """The engine, and whether it was built now."""

    plan: Plan
    built: Built
    is_new: bool = field(default=False)


def plan_build(
    bundle: Bundle, cache: Path, builders: Sequence[EngineBuilder | str] | None = None
) -> Plan:
    """Return what is to be built for this device.

    Raises UsageError where the bundle asks for no such engine, MissingError where TensorRT or a
    GPU is missing.
    """
    wants = wants_of(bundle)
    builder = find_builder(available() if builders is None else builders)
    hardware = find_hardware(builder.version)
    return Plan(bundle, wants, builder, hardware, Place(cache, bundle.digest, hardware.digest))


def finalize(
    plan: Plan,
    limits: Limits = Limits(),
    *,
    between: Callable[[], None] = lambda: None,
    check: Depth = "digests",
) -> Finalized:
    """Build the engine unless it is there and whole; nothing is left of a build that fails.

    Raises BuildError where TensorRT gives no plan, DoesNotFitError where the disk has no room,
    ProofError where the built engine departs from the original by more than the bundle allows.
    """
    found = _whole(plan.place, check)
    if found is not None:
        return Finalized(plan, found)
    folder = plan.place.folder
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_space(plan)
    try:
        with scratch_folder(folder) as scratch:
            _build(plan, scratch, limits, between)
            sync_tree(scratch)
            _keep_timing(plan, scratch / _TIMING_NAME)
            replace_folder(scratch, folder)
    finally:
        with suppress(OSError):
            folder.parent.rmdir()
    made = plan.place.find("sizes")
    if made is None:
        raise BuildError(f"{folder} went while it was written")
    return Finalized(plan, made, is_new=True)


def _keep_timing(plan: Plan, timing: Path) -> None:
    if timing.is_file():
        plan.place.timing_cache.parent.mkdir(exist_ok=True)
        timing.replace(plan.place.timing_cache)


def _whole(place: Place, check: Depth) -> Built | None:
    """A damaged engine counts as none: it is built again."""
    try:
        return place.find(check)
    except IntegrityError:
        return None


def _build(plan: Plan, scratch: Path, limits: Limits, between: Callable[[], None]) -> None:
    path, timing = scratch / PLAN_NAME, scratch / _TIMING_NAME
    if plan.place.timing_cache.is_file():
        shutil.copyfile(plan.place.timing_cache, timing)
    bundle, shapes = plan.bundle, plan.wants.shapes
    order = Order(bundle.entry.absolute(), path, timing, shapes, limits.workspace_mib)
    ended = _run(plan.builder.command(order), limits, between)
    if ended.status or ended.stopped or not path.is_file() or not path.stat().st_size:
        _refuse_full_disk(plan, path)
        raise build_error(plan.builder.name, ended)
    golden = _golden(plan, path, limits, between)
    record = Record(
        bundle=bundle.digest,
        fingerprint=plan.hardware.digest,
        hardware=asdict(plan.hardware),
        builder=f"{plan.builder.name} {plan.builder.version}",
        ranges=plan.wants.ranges,
        plan_sha256=sha256_of(path),
        plan_bytes=path.stat().st_size,
        seconds=round(ended.seconds, 3),
        peak_memory_bytes=ended.peak_memory_bytes,
        built_at=round(time.time(), 3),
        verified=PENDING if golden is None else BY_ENGINE,
        golden=golden,
    )
    (scratch / RECORD_NAME).write_bytes(canonical_bytes(record.model_dump(mode="json")))


def _golden(plan: Plan, path: Path, limits: Limits, between: Callable[[], None]) -> Golden | None:
    """Run the golden inputs on the plan; None where this Python cannot run one, or none are held.

    trtexec builds without the package that runs: what it built is pending until that is there.
    """
    if plan.bundle.manifest.golden is None or not is_importable("tensorrt"):
        return None
    command = [*_SELFTEST, str(plan.bundle.path), "--plan", str(path)]
    ended = _run(command, limits, between)
    if ended.stopped or ended.status not in (0, _FELL_SHORT):
        raise build_error("the self-test of the built engine", ended)
    golden = Golden.model_validate(parse(ended.output, "self-test's report"))
    short = [each.shortfall for each in golden.checks if not each.passed]
    if short or not golden.passed:
        raise ProofError(
            f"The engine that TensorRT built of {plan.bundle.path} fell short",
            why="; ".join(short) or "the self-test says that it did not pass",
            next="edgeward compile … --engine onnxruntime, or a wider precision",
        )
    return golden


def _run(command: Sequence[str], limits: Limits, between: Callable[[], None]) -> Ended:
    try:
        return run_limited(
            command,
            seconds=limits.seconds,
            memory_bytes=limits.most_bytes,
            clock=_MonotonicClock(),
            between=between,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be started", why=str(error)) from None


def _needed(plan: Plan) -> int:
    return int(plan.bundle.manifest.size * SPACE_FACTOR) + RESERVE_BYTES


def _check_space(plan: Plan) -> None:
    free, needed = shutil.disk_usage(plan.place.folder.parent).free, _needed(plan)
    if free < needed:
        raise _no_room(plan, free, needed)


def _refuse_full_disk(plan: Plan, path: Path) -> None:
    """A disk that ran full while the plan was written explains the failure better."""
    free = shutil.disk_usage(path.parent).free
    if free < RESERVE_BYTES // 8:
        raise _no_room(plan, free, _needed(plan))


def _no_room(plan: Plan, free: int, needed: int) -> DoesNotFitError:
    return DoesNotFitError(
        f"There is no room for the engine in {plan.place.root}",
        why=f"{free} bytes are free, {needed} are needed",
        next="edgeward finalize --clear-old, or --cache FOLDER on another disk",
    )
