"""A measurement as one flat record: what was measured, on what, how fast, how sure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from edgeward.runtimes.bundle.read import Bundle

from .host import Machine
from .noise import noise_of
from .request import Request

VERSION = 1


def now() -> str:
    """Return the moment as llama-bench writes it, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def record_of(
    bundle: Bundle, request: Request, told: Mapping[str, Any], moment: str, others: float | None
) -> dict[str, Any]:
    """Return the record of what a child told; `others` wanted a core before it began."""
    manifest, work, engine = bundle.manifest, told["work"], told["engine"]
    before, after = Machine(**told["before"]), Machine(**told["after"])
    figures, energy, validity = told["figures"], told["energy"], told["validity"]
    noise = noise_of(
        figures["served_iqr_ms"],
        figures["served_p50_ms"],
        before,
        after,
        others=others,
        throttled=told["throttled"],
        stable=told["warm_up"]["stable"],
    )
    samples = figures["query_count"] * work["rows"]
    return {
        "record_version": VERSION,
        "test_time": moment,
        "scenario": request.scenario,
        "task": manifest.task,
        "model_filename": str(bundle.path),
        "model_type": f"{manifest.source.architecture} {manifest.recipe.precision}",
        "model_size": manifest.size,
        "bundle": manifest.name,
        "bundle_digest": bundle.digest,
        "format": manifest.recipe.format,
        "precision": manifest.recipe.precision,
        "backends": engine["provider"] or engine["name"],
        "engine": engine["name"],
        "engine_version": engine["version"],
        "cpu_info": before.cpu_model,
        "cores": before.cores,
        "n_threads": request.threads,
        "batch": request.batch,
        "n_prompt": work["read"],
        "n_gen": work["written"],
        "what": work["what"],
        "sound_seconds": work["seconds"],
        "load_ms": told["load_ms"],
        "first_ms": told["first_ms"],
        "first_ttft_ms": told["first_ttft_ms"],
        "peak_memory_bytes": told["peak_memory_bytes"],
        **figures,
        "target_qps": told["rate"],
        "latency_bound_ms": request.bound_ms,
        "seed": request.seed,
        "valid": validity["valid"],
        "invalid_why": validity["why"],
        "mlperf_minimum_met": validity["mlperf_minimum_met"],
        "warm_up_calls": told["warm_up"]["calls"],
        "warm_up_stable": told["warm_up"]["stable"],
        "iqr_percent": noise.iqr_percent,
        "steal_percent": noise.steal_percent,
        "noisy": noise.noisy,
        "warnings": list(noise.warnings),
        "energy_j": energy["joules"] if energy else None,
        "energy_source": energy["source"] if energy else None,
        "energy_per_sample_j": energy["joules"] / samples if energy else None,
        "power_mode": after.power_mode,
        "temperature_before_c": before.temperature_c,
        "temperature_after_c": after.temperature_c,
        "machine_before": told["before"],
        "machine_after": told["after"],
    }
