#!/usr/bin/env python3
"""Completes a Core ML bundle's proof on a Mac: Core ML's own predict, and where each part runs.

usage: python3 verify_on_device.py [BUNDLE] [--compute-units cpuAndNeuralEngine|all|cpuOnly]

Stands alone: numpy and coremltools are all that it needs. It runs the cases of `on_device.npz`
through Core ML, compares them with what edgeward's evaluator computed of the same package, asks
MLComputePlan which device each operator prefers, and writes both into manifest.json, whose digest
names the bundle and so becomes another. A signed bundle is left as it is: what was found lies
beside it, in BUNDLE.on_device.json. Exit code 3 where the outputs are not close enough.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES, MANIFEST, SIGNATURE = "on_device.npz", "manifest.json", "manifest.sig"
CHUNK, NEW = "chunk", "new_"
UNITS = {
    "cpuAndNeuralEngine": "CPU_AND_NE",
    "all": "ALL",
    "cpuOnly": "CPU_ONLY",
    "cpuAndGPU": "CPU_AND_GPU",
}
LEAST_COSINE = 0.999


class CoreML:
    """Core ML on this machine: the only part that knows of it."""

    name = "Core ML"

    def __init__(self, units: str) -> None:
        import coremltools

        if platform.system() != "Darwin":
            raise SystemExit("Core ML runs on a Mac: copy the bundle there and run this again")
        self.tools, self.units = coremltools, getattr(coremltools.ComputeUnit, UNITS[units])
        self.version = f"macOS {platform.mac_ver()[0]}, coremltools {coremltools.__version__}"
        self.machine = platform.machine()

    def open(self, package: Path, function: str | None) -> Any:
        """Return what has `predict` and `make_state`, for one function of a package."""
        return self.tools.models.MLModel(
            str(package), compute_units=self.units, function_name=function
        )

    def placement(self, package: Path) -> dict[str, int]:
        """Return how many operators prefer each kind of device, constants left out."""
        from coremltools.models.compute_plan import MLComputePlan

        compiled = self.tools.models.utils.compile_model(str(package))
        plan = MLComputePlan.load_from_path(path=compiled, compute_units=self.units)
        found: dict[str, int] = {}
        for function in plan.model_structure.program.functions.values():
            for operation in function.block.operations:
                usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
                if usage is None:
                    continue
                kind = type(usage.preferred_compute_device).__name__
                name = kind.removeprefix("ML").removesuffix("ComputeDevice")
                found[name] = found.get(name, 0) + 1
        return found


def main(arguments: list[str] | None = None, engine: Any = None) -> int:
    """Run it; `engine` stands for Core ML."""
    parser = argparse.ArgumentParser(description="Complete a Core ML bundle's proof on a Mac.")
    parser.add_argument("bundle", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--compute-units", choices=sorted(UNITS), default="cpuAndNeuralEngine")
    asked = parser.parse_args(arguments)
    engine = engine if engine is not None else CoreML(asked.compute_units)
    manifest = json.loads((asked.bundle / MANIFEST).read_text("utf-8"))
    figures = measured(asked.bundle, manifest, engine)
    placed: dict[str, int] = {}
    for package in all_packages(asked.bundle, manifest):
        for name, count in engine.placement(package).items():
            placed[name] = placed.get(name, 0) + count
    found = {
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "provider": asked.compute_units,
            "machine": engine.machine,
        },
        "figures": figures,
        "placement": placed,
        "passed": figures["device_cosine_min"] >= LEAST_COSINE,
    }
    where = write_back(asked.bundle, manifest, found)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.stderr.write(f"written to {where}\n")
    return 0 if found["passed"] else 3


def packages_of(bundle: Path, manifest: dict[str, Any], part: str = "") -> list[Path]:
    """Return the model's package or its chunks in their order; else that of a part."""
    parts = manifest.get("parts") or {}
    if part:
        return [(bundle / parts[part]).parent]
    chunks = sorted(map(int, (role[len(CHUNK) :] for role in parts if role.startswith(CHUNK))))
    places = [manifest["entry"], *(parts[f"{CHUNK}{number}"] for number in chunks)]
    return [(bundle / place).parent for place in places]


def all_packages(bundle: Path, manifest: dict[str, Any]) -> list[Path]:
    """Return every package of the bundle."""
    others = [role for role in manifest.get("parts") or {} if not role.startswith(CHUNK)]
    found = packages_of(bundle, manifest)
    return found + [one for role in others for one in packages_of(bundle, manifest, role)]


def measured(bundle: Path, manifest: dict[str, Any], engine: Any) -> dict[str, float]:
    """Run every case; the least cosine and the largest difference over all outputs."""
    import numpy as np

    opened: dict[str, list[Any]] = {}
    least, largest, count = 1.0, 0.0, 0
    with np.load(bundle / CASES, allow_pickle=False) as held:
        for calls in cases_of(held):
            states: dict[str, list[Any]] = {}
            known: dict[str, Any] = {}
            for where, given, wanted in calls:
                part, _, function = where.rpartition(":")
                if where not in opened:
                    packages = packages_of(bundle, manifest, part)
                    opened[where] = [engine.open(one, function or None) for one in packages]
                models = opened[where]
                if part not in states:
                    states[part] = [state_of(model) for model in models]
                known.update(given)
                found = run(models, states[part], known)
                known.update(found)
                known.update({k[len(NEW) :]: v for k, v in found.items() if k.startswith(NEW)})
                for name, expected in wanted.items():
                    got = np.asarray(found[name], np.float64)
                    got = got[:, got.shape[1] - expected.shape[1] :] if got.ndim > 1 else got
                    cosine, difference = compared(expected.astype(np.float64), got)
                    least, largest = min(least, cosine), max(largest, difference)
                    count += 1
    return {
        "device_cosine_min": least,
        "device_relative_difference": largest,
        "device_outputs": float(count),
    }


def cases_of(held: Any) -> list[list[tuple[str, dict[str, Any], dict[str, Any]]]]:
    """Return each case's calls: where, its inputs, its outputs.

    An array is called CASE/CALL/WHERE/in|out/NAME. WHERE is a function of the model, or
    PART:FUNCTION of a graph beside it. A call takes what those before it took or gave, `new_NAME`
    as NAME.
    """
    found: dict[int, dict[int, tuple[str, dict[str, Any], dict[str, Any]]]] = {}
    for key in held.files:
        case, call, function, side, name = key.split("/", 4)
        calls = found.setdefault(int(case), {})
        _, given, wanted = calls.setdefault(int(call), (function, {}, {}))
        (given if side == "in" else wanted)[name] = held[key]
    return [[found[case][call] for call in sorted(found[case])] for case in sorted(found)]


def state_of(model: Any) -> Any:
    """Return fresh states where the program has any."""
    described = model.get_spec().description
    functions = [*described.functions, described]
    return model.make_state() if any(len(one.state) for one in functions) else None


def run(models: list[Any], states: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Run chunk after chunk; each takes what those before it gave."""
    known = dict(given)
    for model, state in zip(models, states, strict=True):
        described = model.get_spec().description
        functions = {one.name: one for one in described.functions}
        ports = functions.get(getattr(model, "function_name", None) or "", described).input
        if not ports and functions:
            ports = functions[described.defaultFunctionName].input
        fed = {port.name: known[port.name] for port in ports}
        known.update(model.predict(fed) if state is None else model.predict(fed, state=state))
    return known


def compared(wanted: Any, got: Any) -> tuple[float, float]:
    """Return the cosine, and the largest difference over the largest value."""
    import numpy as np

    if got.shape != wanted.shape or not np.isfinite(got).all():
        return -1.0, 1e9
    sizes = float(np.linalg.norm(wanted) * np.linalg.norm(got))
    cosine = float((wanted * got).sum() / sizes) if sizes else float(np.array_equal(wanted, got))
    peak = float(np.abs(wanted).max()) or 1.0
    return cosine, float(np.abs(wanted - got).max()) / peak


def write_back(bundle: Path, manifest: dict[str, Any], found: dict[str, Any]) -> Path:
    """Write what was found into the manifest, or beside a bundle that is signed."""
    if (bundle / SIGNATURE).exists():
        place = bundle.with_name(f"{bundle.name}.on_device.json")
        replace(place, json.dumps(found, indent=1) + "\n")
        return place
    replace(bundle / MANIFEST, json.dumps(completed(manifest, found), indent=1) + "\n")
    return bundle / MANIFEST


def completed(manifest: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with the device's figures; what failed stays pending."""
    proof = dict(manifest["proof"])
    placed = {f"placed_{name}": float(count) for name, count in found["placement"].items()}
    proof["informative"] = {**(proof.get("informative") or {}), **found["figures"], **placed}
    check = {
        "metric": "device_cosine_min",
        "value": found["figures"]["device_cosine_min"],
        "bound": LEAST_COSINE,
        "direction": "at-least",
    }
    others = [one for one in proof.get("checks") or [] if one["metric"] != check["metric"]]
    proof["checks"] = [*others, check]
    if found["passed"]:
        proof["verified"], proof["engine"] = "engine", found["engine"]
        proof["pending_on_target"] = [
            one for one in proof.get("pending_on_target") or [] if "verify_on_device.py" not in one
        ]
    else:
        proof["degraded"] = True
    return {**manifest, "proof": proof}


def replace(place: Path, text: str) -> None:
    """Write a file whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=place.parent.parent, prefix=".on_device")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
