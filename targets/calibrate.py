"""Measure this machine's bandwidth and rates, and write them as a profile of the user's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from edgeward.errors import EdgewardError

from .derive import profile_document
from .destination import check_name
from .fingerprint import Fingerprint
from .probe import probe
from .profile import Reached
from .units import format_bandwidth, format_rate
from .write import render

TIMEOUT_S = 600.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Rounded down to three digits: a machine's own noise is larger.
_DIGITS = 3
_INT8_TIMES = 2.5
# Without an instruction that sums four 8-bit products: measured with AVX2 alone, dynamic int8's
# prompts beside float32's, 1.1 to 1.6 in ten models (docs/planning.md).
_INT8_TIMES_WIDENED = 1.5
_SUMS_OF_FOUR = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})


@dataclass(frozen=True, slots=True)
class KernelScript:
    """What measures an engine's kernels: the engine's module, our extra with it, what is run."""

    title: str
    needs: str
    extra: str
    script: str


SCRIPTS: Mapping[str, KernelScript] = {
    "onnxruntime": KernelScript("ONNX Runtime", "onnxruntime", "onnx", "calibration_onnxruntime"),
    "llama": KernelScript("llama.cpp", "llama_cpp", "llama", "calibration_llama"),
    "litert": KernelScript("LiteRT", "ai_edge_litert", "litert", "calibration_litert"),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What was reached with some threads: bytes and float32 operations a second."""

    threads: int
    bytes_per_s: float
    operations_per_s: float


def measure(threads: int) -> Rates:
    """Return what this many threads reach; takes a few seconds. EdgewardError where it fails."""
    found = _told("calibration", threads)
    return Rates(threads, float(found["bytes_per_s"]), float(found["operations_per_s"]))


def measure_kernels(engine: str, threads: int, python: str = sys.executable) -> Reached | None:
    """Return what the kernels of one of SCRIPTS reach, None where the engine is not installed.

    Takes seconds to minutes. `python` is another interpreter, which has the engine. EdgewardError
    where it fails.
    """
    script = SCRIPTS[engine]
    if python == sys.executable and find_spec(script.needs) is None:
        return None
    return Reached(**_told(script.script, threads, python))


def _told(module: str, threads: int, python: str = sys.executable) -> dict[str, Any]:
    """What a measuring module prints, run with a number of threads."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    command = [python, "-m", f"edgeward.targets.{module}", str(threads)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EdgewardError("this machine could not be measured", why=str(error)[:200]) from None
    return dict(found)


def calibrated(name: str, threads: int | None = None) -> tuple[str, str]:
    """Return this machine's profile as TOML, and a line on what was measured.

    The profile has the figures of `threads` threads, of all cores where that is None; those of an
    engine's kernels where it is installed.
    """
    check_name(name)
    fingerprint = probe()
    chosen = threads or fingerprint.cores
    rates = [measure(count) for count in sorted({1, chosen})]
    found = next(each for each in rates if each.threads == chosen)
    tried = {engine: _kernels(engine, chosen) for engine in SCRIPTS}
    said = "; ".join([*(_words(each) for each in rates), *(told for _, told in tried.values())])
    kernels = {engine: reached for engine, (reached, _) in tried.items() if reached}
    return render(document(fingerprint, found, said, kernels)), said


def _kernels(engine: str, threads: int) -> tuple[Reached | None, str]:
    """What kernels reach, in words too; a machine that cannot hold their models goes without."""
    title, extra = SCRIPTS[engine].title, SCRIPTS[engine].extra
    try:
        found = measure_kernels(engine, threads)
    except EdgewardError as error:
        return None, f"{title}'s kernels could not be measured ({error.why[:80]})"
    if found is None:
        return None, f"{title} is not installed (edgeward[{extra}]), its kernels are not measured"
    if not _is_plausible(found):
        return None, f"{title}'s kernels could not be measured: others use the processor"
    return found, f"{title}'s kernels"


def _is_plausible(found: Reached) -> bool:
    """A token's products are never faster than a prompt's, nor is its attention than floats'."""
    pairs = [(found.token[name], found.prompt[name]) for name in found.token]
    if found.attention is not None:
        pairs.append((found.attention, next(iter(found.prompt.values()))))
    return all(0 < one <= many for one, many in pairs)


def document(
    fingerprint: Fingerprint, rates: Rates, said: str, kernels: Mapping[str, Reached] | None = None
) -> Mapping[str, object]:
    """Return the profile's content: what the probe tells, with rates that were measured."""
    content = dict(profile_document(fingerprint))
    bandwidth, rate = _rounded(rates.bytes_per_s), _rounded(rates.operations_per_s)
    hardware, sources = content["hardware"], content["sources"]
    assert isinstance(hardware, dict)  # noqa: S101 - built in derive
    assert isinstance(sources, dict)  # noqa: S101
    unit = {"kind": "cpu", "title": fingerprint.cpu_model}
    sums_four = bool(_SUMS_OF_FOUR & set(fingerprint.cpu_flags))
    times = _INT8_TIMES if sums_four else _INT8_TIMES_WIDENED
    int8 = _rounded(rate * times)
    content["description"] = f"Written by `edgeward targets calibrate`. Measured: {said}."
    content["hardware"] = {
        **hardware,
        "memory_bandwidth": format_bandwidth(bandwidth),
        "achieved": {"bandwidth": 1.0, "compute": 1.0},
        "kernels": {name: _written(reached, times) for name, reached in (kernels or {}).items()},
        "units": {"cpu": {**unit, "rates": {"fp32": format_rate(rate), "int8": format_rate(int8)}}},
    }
    measured = f"measured on this machine, {rates.threads} threads, numpy, best of 15"
    content["sources"] = {
        **sources,
        "hardware.memory_bandwidth": f"{measured}: a matrix of 256 MiB times a vector",
        "hardware.achieved": (
            "ONNX Runtime and llama.cpp on one thread beside these figures: benchmarks/plan"
        ),
        **({"hardware.kernels": _kernels_source(kernels)} if kernels else {}),
        "hardware.units.cpu.rates.fp32": f"{measured}: a product of 1024 x 1024 matrices",
        "hardware.units.cpu.rates.int8": (
            "estimate: 2.5 times fp32, as dynamic int8 reached in benchmarks/onnx/report/report.md"
            if sums_four
            else "estimate: 1.5 times fp32, as dynamic int8 reached with AVX2: docs/planning.md"
        ),
    }
    return content


def _written(kernels: Reached, int8_times: float) -> dict[str, object]:
    """Shares as a profile has them: a prompt's of the rate that its weights are multiplied at."""
    prompt = {
        precision: share / (int8_times if precision == "int8-dynamic" else 1.0)
        for precision, share in kernels.prompt.items()
    }
    written = asdict(replace(kernels, prompt=prompt))
    return {
        key: {name: float(f"{share:.3g}") for name, share in value.items()}
        if isinstance(value, dict)
        else float(f"{value:.3g}")
        for key, value in written.items()
        if value is not None
    }


def _kernels_source(engines: Iterable[str]) -> str:
    titles = " and ".join(SCRIPTS[name].title for name in engines)
    return f"measured on this machine with {titles}, beside numpy's products: medians of turns"


def _words(rates: Rates) -> str:
    reads, computes = rates.bytes_per_s / 1e9, rates.operations_per_s / 1e9
    return f"{rates.threads} threads {reads:.1f} GB/s, {computes:.0f} Gop/s"


def _rounded(value: float) -> int:
    step: int = 10 ** max(0, len(str(int(value))) - _DIGITS)
    return max(1, int(int(value) // step * step))
