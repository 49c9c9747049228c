"""ONNX beside its peers in one run: tables, a picture of accuracy, speed and size, and the verdict.

usage: python benchmarks/onnx/report.py ENCODER... --decoder MODEL [--out benchmarks/onnx/report]

Runs what `encoders.py` and `decoders.py` do, one model after the other. Writes `report.md` and
`pareto.svg`: a point is a contestant's speed over our fp32 (geometric mean of its phases) against
what it loses (1 - cosine, or divergence), its area its size. The verdict at fp32 is our speed over
the best peer's in each phase, and the geometric mean of all; of each rounded peer it names those of
ours that are at least as fast, as small and as near to the original.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import decoders
import encoders
import onnxruntime
from peers import room
from rows import Row, table

from edgeward.targets.probe import probe

OURS = "edgeward fp32"
# Peers that compute in float32, and so are what our fp32 is held against.
EXACT = ("optimum-onnx", "optimum-onnx O3", "genai fp32", "torch eager", "torch.compile")
# Of a decoder, what a person waits for: its first token, and each one after it.
WAITED = ("prefill 128", "decode at 128", "decode at 1024")


def leads(rows: Sequence[Row]) -> dict[str, float]:
    """Return, for each phase, our fp32's speed over that of the fastest exact peer."""
    peers = [row for row in rows if row.name in EXACT]
    ours = next(row for row in rows if row.name == OURS)
    phases = [one for one in ours.speeds if one in WAITED or "prefill" not in one]
    return {phase: ours.speeds[phase] / max(row.speeds[phase] for row in peers) for phase in phases}


def verdict(found: Mapping[str, Sequence[Row]]) -> str:
    """Return our lead at fp32, phase by phase, and its geometric mean."""
    told, every = [], []
    for model, rows in found.items():
        for phase, lead in leads(rows).items():
            told.append(f"{model}, {phase}: {lead:.2f}")
            every.append(lead)
    mean = statistics.geometric_mean(every)
    return f"fp32 over the fastest peer: {'; '.join(told)}. Geometric mean {mean:.3f}.\n"


def rounded(found: Mapping[str, Sequence[Row]]) -> str:
    """Return, for each rounded peer, those of ours that it beats in nothing."""
    told = []
    for model, rows in found.items():
        mine = [row for row in rows if row.name.startswith("edgeward")]
        for peer in rows:
            if peer.name in EXACT or peer in mine:
                continue
            better = [row.name for row in mine if _is_as_good(row, peer)]
            told.append(f"{model}, {peer.name}: {', '.join(better) or 'none'}")
    return f"At least as fast, as small and as near as: {'; '.join(told)}.\n"


def _is_as_good(row: Row, peer: Row) -> bool:
    fast = all(_speed(row, phases) >= _speed(peer, phases) for phases in _kinds(row))
    return fast and row.mebibytes <= peer.mebibytes and row.lost <= peer.lost


def _kinds(row: Row) -> list[list[str]]:
    """Prefill and decode are judged apart, lengths of one kind together."""
    prefills = [phase for phase in row.speeds if "prefill" in phase]
    others = [phase for phase in row.speeds if "prefill" not in phase]
    return [kind for kind in (prefills, others) if kind]


def _speed(row: Row, phases: Sequence[str]) -> float:
    return statistics.geometric_mean(row.speeds[phase] for phase in phases)


def machine() -> str:
    """Name what it ran on."""
    here = probe()
    kind = f"{here.cpu_model}, {here.cores} cores, {platform.machine()}"
    return f"{kind}; onnxruntime {onnxruntime.__version__}, one thread.\n"


def main() -> None:
    """Compare every model, then write both files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("encoders", nargs="+", type=Path)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--target", default="x86-64-cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "report")
    given = parser.parse_args()
    found: dict[str, list[Row]] = {}
    for module, models in ((encoders, given.encoders), (decoders, [given.decoder])):
        for model in models:
            with tempfile.TemporaryDirectory() as scratch:
                found[model.name] = module.compared(model, given.target, Path(scratch))
            print(table(found[model.name]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    parts = ["# ONNX beside its peers\n", machine(), verdict(found), rounded(found)]
    parts += [table(rows) for rows in found.values()]
    (given.out / "report.md").write_text("\n".join([*parts, "![Pareto](pareto.svg)\n"]))
    drawn = [row for one in found.values() for row in one if row.accuracy]
    rows = json.dumps([{**asdict(row), "lost": row.lost} for row in drawn])
    picture = [room("plot"), Path(__file__).parent / "pareto.py", given.out / "pareto.svg"]
    subprocess.run(picture, input=rows, text=True, check=True)


if __name__ == "__main__":
    main()
