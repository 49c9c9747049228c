"""Compiled bundles and planned jobs as rows for printing."""

from __future__ import annotations

from .compile import Compiled
from .jobs import Plan
from .package import bundle_name

COMPILED_COLUMNS = [
    "bundle",
    "target",
    "precision",
    "mib",
    "cosine",
    "kl",
    "p50_ms",
    "verified",
    "path",
]
PLANNED_COLUMNS = ["target", "format", "precision", "bundle"]


def compiled_row(compiled: Compiled) -> dict[str, object]:
    """Return the figures that people compare bundles by."""
    manifest = compiled.bundle.manifest
    proof = manifest.proof
    latency = manifest.performance.measured.get("latency_p50_ms")
    cosine, divergence = (proof.figures.get(f"eval_{name}_mean") for name in ("cosine", "kl"))
    return {
        "bundle": compiled.bundle.digest[:12],
        "target": manifest.target.name,
        "precision": manifest.recipe.precision,
        "mib": round(manifest.size / 2**20, 1),
        "cosine": round(cosine, 6) if cosine is not None else None,
        "kl": float(f"{divergence:.3g}") if divergence is not None else None,
        "p50_ms": None if latency is None else round(latency, 3),
        "verified": proof.verified + (" (degraded)" if proof.degraded else ""),
        "path": str(compiled.bundle.path),
    }


def planned_row(name: str, plan: Plan) -> dict[str, object]:
    """Return what a plan would make."""
    job = plan.jobs[0]
    precisions = [each.recipe.precision for each in plan.jobs]
    return {
        "target": job.profile.name,
        "format": job.recipe.format,
        "precision": " or ".join(precisions),
        "bundle": " or ".join(bundle_name(name, each) for each in plan.jobs),
    }
