"""Write a profile for the machine at hand: `edgeward targets probe`."""

from __future__ import annotations

import time

from edgeward.errors import UnsupportedError

from .fingerprint import Fingerprint
from .profile import Profile
from .schema import ARCHES, WORD
from .units import format_bandwidth, format_rate, format_size
from .versions import parse_version
from .write import render

PROBED = "probed on this machine"
MEASURED = "measured on this machine: numpy copy of 64 MiB on one thread, best of 5"
GUESSED = "estimate: a guess, nothing was measured"
GUESSED_BANDWIDTH = 10 * 10**9
SYSTEM_PERCENT = 30
MAX_CORES = 4096
# float32 operations a core does in a cycle: AVX2 and NEON with two FMA pipes
FP32_PER_CYCLE = {"x86_64": 32, "aarch64": 16, "arm64": 16}
ASSUMED_HZ = 2 * 10**9
COPY_BYTES = 64 * 2**20
OWN_PRIORITY = 1000
MEMORY_STEP = 2**20
BANDWIDTH_STEP = 10**8
# formats, default and limits of what runs on a processor
FAMILY = "onnxruntime-cpu"


def measure_bandwidth(repetitions: int = 5) -> int:
    """Return the bytes per second that one thread reads and writes while it copies memory.

    Takes a fraction of a second and twice 64 MiB. One thread seldom fills a memory bus, so this
    is a lower bound.
    """
    import numpy as np

    source = np.ones(COPY_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)
    durations = []
    for _ in range(repetitions):
        start = time.perf_counter_ns()
        np.copyto(target, source)
        durations.append(time.perf_counter_ns() - start)
    return 2 * COPY_BYTES * 10**9 // max(min(durations), 1)


def profile_from(fingerprint: Fingerprint, *, bandwidth_bytes_per_s: int | None = None) -> str:
    """Return the TOML text of a profile for a machine; it loads and validates as it stands.

    Rates are estimates from the number of cores; the text says so and wants to be corrected.
    Raises UnsupportedError for an architecture that no profile can have.
    """
    return render(profile_document(fingerprint, bandwidth_bytes_per_s=bandwidth_bytes_per_s))


def gpu_profile_from(fingerprint: Fingerprint, known: Profile) -> str:
    """Return the TOML text of a profile for a machine with a GPU that a profile describes.

    It has the processor's cores and the GPU's memory as they are here, and that profile's share
    of it for models.
    """
    memory = fingerprint.gpu_memory_bytes or known.hardware.memory_bytes
    usable = memory * known.hardware.usable_memory_bytes // known.hardware.memory_bytes
    return render(
        {
            "extends": known.name,
            "title": (fingerprint.gpu_name or known.title)[:100],
            "description": "Written by `edgeward targets probe`.",
            "hardware": {
                "cores": min(fingerprint.cores, MAX_CORES),
                "memory": format_size(memory),
                "usable_memory": format_size(_rounded(usable, MEMORY_STEP)),
            },
            "match": {"priority": OWN_PRIORITY},
            "sources": {
                "hardware.cores": PROBED,
                "hardware.memory": PROBED,
                "hardware.usable_memory": f"the share that {known.name} has",
                "match.priority": "the machine at hand",
            },
        }
    )


def profile_document(
    fingerprint: Fingerprint, *, bandwidth_bytes_per_s: int | None = None
) -> dict[str, object]:
    """Return what `profile_from` writes, as a document."""
    if fingerprint.arch not in ARCHES:
        raise UnsupportedError(
            f"no profile can describe the architecture {fingerprint.arch}",
            why=f"known: {', '.join(ARCHES)}",
        )
    cores = min(fingerprint.cores, MAX_CORES)
    per_cycle = FP32_PER_CYCLE.get(fingerprint.arch, 4)
    memory = _rounded(fingerprint.memory_bytes, MEMORY_STEP)
    usable = _rounded(memory * (100 - SYSTEM_PERCENT) // 100, MEMORY_STEP)
    bandwidth = _rounded(bandwidth_bytes_per_s or GUESSED_BANDWIDTH, BANDWIDTH_STEP)
    return {
        "extends": FAMILY,
        "title": (fingerprint.device_tree_model or fingerprint.cpu_model)[:100],
        "description": "Written by `edgeward targets probe`; correct what it estimates.",
        "hardware": {
            "arch": fingerprint.arch,
            "cores": cores,
            "memory": format_size(memory),
            "usable_memory": format_size(usable),
            "memory_bandwidth": format_bandwidth(bandwidth),
            "units": {
                "cpu": {
                    "kind": "cpu",
                    "title": fingerprint.cpu_model,
                    "rates": {"fp32": format_rate(cores * ASSUMED_HZ * per_cycle)},
                }
            },
        },
        "engines": _engines(fingerprint),
        "match": _match(fingerprint),
        "sources": {
            "hardware.cores": PROBED,
            "hardware.memory": PROBED,
            "hardware.usable_memory": f"estimate: {SYSTEM_PERCENT} % is left to the system",
            "hardware.memory_bandwidth": MEASURED if bandwidth_bytes_per_s else GUESSED,
            "hardware.units.cpu.rates.fp32": (
                f"estimate: {cores} cores x 2 GHz x {per_cycle} operations a cycle"
            ),
        },
    }


def _rounded(value: int, step: int) -> int:
    """Round down to a step, for figures that people read; smaller than one step stays exact."""
    return value // step * step or max(value, 1)


def _engines(fingerprint: Fingerprint) -> list[dict[str, object]]:
    """The family's engines, ONNX Runtime in the version that is here."""
    here = _pinned(fingerprint.engines.get("onnxruntime"))
    return [
        {
            "name": "onnxruntime",
            "version": here or ">=1.23",
            "providers": ["CPUExecutionProvider"],
        },
        {"name": "llama", "version": ">=0.3.36", "providers": ["CPU"]},
    ]


def _pinned(version: str | None) -> str | None:
    if version is None:
        return None
    public = version.partition("+")[0]
    try:
        parse_version(public)
    except ValueError:
        return None
    return f"=={public}"


def _match(fingerprint: Fingerprint) -> dict[str, object]:
    board = fingerprint.device_tree_model
    return {
        "device_tree": [board[:100].strip()] if board else [],
        "cpu_flags": [
            flag for flag in dict.fromkeys(fingerprint.cpu_flags) if WORD.fullmatch(flag)
        ],
        "priority": OWN_PRIORITY,
    }
