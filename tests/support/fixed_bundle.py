"""A tiny bundle of fixed shapes: the tiny model through the real stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_model import TEXTS, tiny_cases, tiny_manifest, tiny_weights, write_tiny_model

from edgeward.compiler.formats.onnx_shapes import fix_shapes
from edgeward.compiler.shapes import FixedShapes, stem_of
from edgeward.compiler.stage_context import StageContext
from edgeward.runtimes.bundle.manifest import schema_version
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
from edgeward.runtimes.proof.vectors import write_cases
from edgeward.targets.load import load as load_profile


def make_fixed_bundle(destination: Path, shapes: FixedShapes) -> Bundle:
    """Write a whole bundle with one graph for each combination of sizes."""
    profile = load_profile("x86-64-cpu")
    scratch = destination.parent / f".{destination.name}-model"
    write_tiny_model(scratch, tiny_weights())
    write_cases(scratch, [f"case {n}" for n in range(len(TEXTS))], tiny_cases(tiny_weights()))
    largest, *others = shapes.buckets()
    stems = {"model": largest, **{stem_of(sizes): sizes for sizes in others}}
    left = scratch / "left"
    left.mkdir()
    (scratch / "onnx" / "model.onnx").rename(scratch / "model.onnx")
    context = StageContext({"model": scratch, "assets": scratch}, left, scratch=scratch)
    done = fix_shapes(context, {"buckets": stems, "words": list(stems)})
    (scratch / "model.onnx").unlink()
    buckets = [{"path": f"onnx/{stem}.onnx", "sizes": sizes} for stem, sizes in stems.items()]
    with writing_bundle(destination) as writer:
        for path in sorted(left.iterdir()):
            writer.add(f"onnx/{path.name}", path)
            path.unlink()
        for path in sorted(p for p in scratch.rglob("*") if p.is_file()):
            writer.add(path.relative_to(scratch).as_posix(), path)
        files = [entry.model_dump(mode="json") for entry in writer.files()]
        document: dict[str, Any] = tiny_manifest(files, profile.name, profile.digest)
        shaped = {"buckets": buckets, "padding": done["padding"]}
        writer.write_manifest({**document, **shaped, "schema_version": schema_version()})
    return open_bundle(destination)
