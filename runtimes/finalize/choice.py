"""Which engine serves a bundle here: the one that was built for this device, else its format's."""

from __future__ import annotations

import logging
from pathlib import Path

from edgeward.errors import EngineError, IntegrityError, MissingError, UsageError
from edgeward.runtimes.bundle.read import Bundle, Depth
from edgeward.runtimes.engines.base import EngineOptions, EngineSession
from edgeward.runtimes.engines.bucketed import open_graphs
from edgeward.runtimes.engines.registry import ENGINE_OF_FORMAT, engine_for

from .builder import three_numbers
from .hardware import find_hardware
from .place import Place, engines_folder
from .wants import TENSORRT, is_built_on_device, wants_of

_LOGGER = logging.getLogger("edgeward.runtimes")


def open_engine(
    bundle: Bundle,
    options: EngineOptions,
    *,
    asked: str | None = None,
    plan: Path | None = None,
    check: Depth = "digests",
) -> EngineSession:
    """Open a bundle in the engine that is asked for, or in the best that it has here.

    A bundle that is to be built on the device runs in its format's own engine until it is, which
    is told as a warning. Asked for by name, what is not there raises EngineError. `plan` is a
    plan that lies elsewhere.
    """
    own = ENGINE_OF_FORMAT.get(bundle.manifest.recipe.format, bundle.manifest.recipe.format)
    if asked not in (None, own, TENSORRT):
        raise UsageError(f"{bundle.path} does not run in {asked}", why=f"it runs in {own}")
    if plan is not None:
        return engine_for(TENSORRT).open_model(plan, options)
    if asked == TENSORRT:
        wants_of(bundle)
        return _open_built(bundle, options, check)
    if asked is None and is_built_on_device(bundle.manifest):
        try:
            return _open_built(bundle, options, check)
        except MissingError as error:
            _LOGGER.warning("%s runs in %s: %s", bundle.path, own, _sentence(error))
    return open_graphs(engine_for(bundle.manifest.recipe.format), bundle, options)


def _open_built(bundle: Bundle, options: EngineOptions, check: Depth) -> EngineSession:
    from edgeward.runtimes.engines.tensorrt import import_tensorrt

    version = str(import_tensorrt().__version__)
    hardware = find_hardware(three_numbers(version) or version)
    place = Place(engines_folder(), bundle.digest, hardware.digest)
    try:
        built = place.find(check)
    except IntegrityError as error:
        raise EngineError(error.what, why=error.why, next=_next(bundle)) from None
    if built is None:
        raise EngineError(
            "No engine was built of this bundle for this device",
            why=f"pending-on-target: {hardware.words}, nothing in {place.folder}",
            next=_next(bundle),
        )
    return engine_for(TENSORRT).open_model(built.plan, options)


def _next(bundle: Bundle) -> str:
    return f"edgeward finalize {bundle.path}"


def _sentence(error: MissingError) -> str:
    parts = [error.what, error.why, f"next: {error.next}" if error.next else ""]
    return "; ".join(part for part in parts if part)
