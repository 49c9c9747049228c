"""What a graph's activations are on calibration data: their ranges, and rows of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import UsageError

Floats = NDArray[np.float32]
Inputs = Mapping[str, NDArray[Any]]
_ROWS_EACH = 32


@dataclass(slots=True)
class Seen:
    """One activation [..., K] over all samples: each channel's ends, and some rows [R, K]."""

    low: Floats
    high: Floats
    _rows: list[Floats] = field(default_factory=list)

    @property
    def peak(self) -> Floats:
        """Each channel's largest size."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def rows(self) -> Floats:
        """The kept rows, one below the other."""
        return np.concatenate(self._rows)

    def add(self, values: Floats, limit: int, generator: np.random.Generator) -> None:
        """Take another sample's values [R, K], keeping few of its rows."""
        np.minimum(self.low, values.min(axis=0), out=self.low)
        np.maximum(self.high, values.max(axis=0), out=self.high)
        kept = sum(map(len, self._rows))
        count = min(len(values), _ROWS_EACH, limit - kept)
        if count > 0:
            self._rows.append(values[generator.choice(len(values), count, replace=False)])


def observe(
    model: Any,
    names: Collection[str],
    samples: Iterable[Inputs],
    scratch: Path,
    *,
    budget_bytes: int = 1 << 28,
) -> dict[str, Seen]:
    """Run float samples through a model on one thread and return what each named value was.

    `scratch` is where the model with its values laid open is written for the time of the run.
    Raises UsageError where there is no sample, or where one gives no finite values.
    """
    session = open_float(model, names, scratch)
    wanted = sorted(names)
    seen: dict[str, Seen] = {}
    generator = np.random.default_rng(0)
    for sample in samples:
        for name, given in zip(wanted, session.run(wanted, dict(sample)), strict=True):
            values = given.reshape(-1, given.shape[-1])
            if not len(values):
                continue
            if not np.isfinite(values).all():
                raise UsageError(
                    f"Calibration gave no number for {name}", why="it is NaN or infinite"
                )
            if name not in seen:
                seen[name] = Seen(values.min(axis=0), values.max(axis=0))
            limit = max(64, budget_bytes // (len(wanted) * values.shape[1] * 4))
            seen[name].add(values, limit, generator)
    if len(seen) < len(wanted):
        raise UsageError("Calibration saw no activations", why="there were no samples")
    return seen


def second_moments(
    model: Any, names: Collection[str], samples: Iterable[Inputs], scratch: Path
) -> dict[str, Floats]:
    """Return X^T X of each named value's rows X over all samples, float32 [K, K].

    One run of the model a sample, on one thread; a value that no sample reaches is left out.
    Raises UsageError where one is not finite.
    """
    session = open_float(model, names, scratch)
    wanted = sorted(names)
    sums: dict[str, Floats] = {}
    for sample in samples:
        for name, given in zip(wanted, session.run(wanted, dict(sample)), strict=True):
            rows = np.asarray(given.reshape(-1, given.shape[-1]), np.float32)
            if not len(rows):
                continue
            moment = rows.T @ rows
            if not np.isfinite(moment).all():
                raise UsageError(
                    f"Calibration gave no number for {name}", why="it is NaN or infinite"
                )
            sums[name] = sums[name] + moment if name in sums else moment
    return sums


def open_float(model: Any, names: Collection[str], scratch: Path) -> Any:
    """Open a model in ONNX Runtime, one thread, with named values as outputs beside its own."""
    import onnx
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {o.name for o in opened.graph.output}
    for name in sorted(set(names) - given):
        opened.graph.output.append(onnx.ValueInfoProto(name=name))
    onnx.save(opened, scratch, save_as_external_data=True, location=f"{scratch.name}.data")
    del opened
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(scratch, options, providers=["CPUExecutionProvider"])
    finally:
        scratch.unlink()
        (scratch.parent / f"{scratch.name}.data").unlink(missing_ok=True)
