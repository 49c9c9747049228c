"""A bundle in a few lines for people."""

from __future__ import annotations

import json

from edgeward.errors import IntegrityError

from .manifest import Check, Manifest
from .read import Bundle

NEURAL_ENGINE = "neural_engine.json"
_MOST_BYTES = 1 << 20


def summary(bundle: Bundle) -> list[dict[str, object]]:
    """Return field and value pairs: what it is, for whom, and what it proved."""
    manifest = bundle.manifest
    proof, engine = manifest.proof, manifest.proof.engine
    ran = f" by {engine.name} {engine.version} on {engine.machine}" if engine else ""
    fields: dict[str, object] = {
        "bundle": bundle.digest,
        "name": manifest.name,
        "task": manifest.task,
        "source": f"{manifest.source.id} ({manifest.source.architecture})",
        **_origin(manifest),
        "licence": manifest.source.license or "not stated",
        "target": manifest.target.name,
        "recipe": f"{manifest.recipe.format} {manifest.recipe.precision}",
        **_shapes(manifest),
        "size": f"{manifest.size / 2**20:.1f} MiB in {len(manifest.files)} files",
        "verified": proof.verified + ran + (" (degraded, accepted)" if proof.degraded else ""),
        **{check.metric: _words(check) for check in proof.checks},
        **{name: round(value, 3) for name, value in manifest.performance.measured.items()},
    }
    if proof.pending_on_target:
        fields["pending on target"] = "; ".join(proof.pending_on_target)
    fields |= _neural_engine(bundle)
    if delegates := manifest.recipe.options.get("delegates"):
        fields["delegates"] = str(delegates)
    return [{"field": name, "value": value} for name, value in fields.items()]


def _neural_engine(bundle: Bundle) -> dict[str, object]:
    """What is known to leave Apple's Neural Engine, as the compile read it from the package."""
    place = bundle.file(NEURAL_ENGINE)
    if place is None:
        return {}
    try:
        with place.open("rb") as file:
            advice = json.loads(file.read(_MOST_BYTES))
        lines = [f"{one['what']} ({one['count']}): {one['source']}" for one in advice]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{NEURAL_ENGINE} is damaged", why=str(error)[:200]) from None
    return {"may leave the neural engine": "; ".join(lines) or "nothing that is known to"}


def _origin(manifest: Manifest) -> dict[str, object]:
    origin = manifest.source.dequantised_from
    if origin is None:
        return {}
    figures = ", ".join(f"{name} {value:.4g}" for name, value in origin.checks.items())
    return {"dequantised from": f"{origin.words}, {figures or 'not held against its engine'}"}


def _shapes(manifest: Manifest) -> dict[str, object]:
    if not manifest.buckets:
        return {}
    listed = (" x ".join(f"{n} {size}" for n, size in b.sizes.items()) for b in manifest.buckets)
    return {"shapes": "; ".join(listed)}


def _words(check: Check) -> str:
    sign = ">=" if check.direction == "at-least" else "<="
    return f"{check.value:.6g} ({sign} {check.bound:g})"
