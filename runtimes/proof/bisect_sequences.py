"""Which layer of an encoder or its decoder departs first: the graph that reads, then the other."""

from __future__ import annotations

from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import load
from edgeward.runtimes.tasks.sequences import ENCODER

from .bisect_onnx import bisect
from .bisect_words import Bisection
from .sequences import read_cases, reading, sample, typical


def bisect_sequences(artifact: Bundle, original: Bundle, *, threads: int = 1) -> Bisection:
    """Run one golden case through both graphs of both bundles, layer by layer.

    The decoders are given what the original's encoder made of the case, so that an encoder that
    departs does not count against them. Raises what `bisect` raises.
    """
    with load(original, threads=threads, check="sizes") as session:
        task = session.sequences
        inputs = reading(task, typical(read_cases(artifact.path))).inputs
        begun = task.graph.begun(inputs)
    first, second = (b.path / b.manifest.parts[ENCODER] for b in (original, artifact))
    read = bisect(first, second, inputs, threads=threads)
    if read.first is not None:
        return read
    given = {
        **sample(artifact.path),
        **begun.held,
        **dict(zip(begun.past, begun.empty, strict=True)),
    }
    return bisect(original.entry, artifact.entry, given, threads=threads)
