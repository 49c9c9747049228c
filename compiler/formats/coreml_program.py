"""Writes a front end as an ML program; runs inside the `coreml` toolchain."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.compiler.mil.package import quiet
from edgeward.errors import UnsupportedError

from .coreml_operators import register_operators

_LONGEST = 500
# What coremltools leaves beside the package's own files, for executorch alone.
_STRAYS = ("executorch_debug_handle_mapping.json",)
Described = Mapping[str, str]


def converted(
    module: Any,
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    *,
    ios: int,
    wide: bool,
    states: Sequence[Any] = (),
) -> Any:
    """Return the program of a traced module as coremltools' MLModel, float16 unless `wide`.

    Raises UnsupportedError for an operator that coremltools does not convert.
    """
    import torch

    with quiet():
        import coremltools as ct

        register_operators()
        exported = torch.export.export(module, tuple(inputs.values()), strict=False)
        program = exported.run_decompositions({})
        floats = np.float32 if wide else np.float16
        try:
            return ct.convert(
                program,
                convert_to="mlprogram",
                inputs=[
                    ct.TensorType(name=name, shape=tuple(one.shape), dtype=_dtype(one, floats))
                    for name, one in inputs.items()
                ],
                outputs=[ct.TensorType(name=name) for name in outputs],
                states=list(states) or None,
                pass_pipeline=_passes(stateful=bool(states)),
                minimum_deployment_target=target(ios),
                compute_precision=ct.precision.FLOAT32 if wide else ct.precision.FLOAT16,
                compute_units=ct.ComputeUnit.CPU_AND_NE,
                skip_model_load=True,
            )
        except (NotImplementedError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise UnsupportedError(
                "coremltools does not convert this model", why=_first_line(error)
            ) from error


def target(ios: int) -> Any:
    """coremltools' name for an iOS."""
    import coremltools as ct

    return getattr(ct.target, f"iOS{ios}")


def _passes(*, stateful: bool) -> Any:
    """coremltools' own, but for one that fails where two states are written one after the other."""
    import coremltools as ct

    passes = ct.PassPipeline()
    if stateful:
        passes.remove_passes({"common::canonicalize_inplace_pattern"})
    return passes


def describe(model: Any, says: Described, task: str, labels: Sequence[str] = ()) -> None:
    """Write what the package says of itself, as Xcode shows it."""
    model.author = says["source"]
    model.license = says["license"] or "as the original's"
    model.version = says["revision"] or "unknown"
    model.short_description = f"{says['architecture']} for {task}, compiled by edgeward"
    spec = model.get_spec()
    for feature in (*spec.description.input, *spec.description.output):
        feature.shortDescription = _WORDS.get(feature.name, feature.name.replace("_", " "))
    model.user_defined_metadata["task"] = task
    if labels:
        model.user_defined_metadata["classes"] = ",".join(
            label.replace(",", " ") for label in labels
        )


def save(model: Any, path: Path) -> None:
    """Write the package, without what belongs to other tools."""
    with quiet():
        model.save(str(path))
    for name in _STRAYS:
        (path / name).unlink(missing_ok=True)


def merge(packages: Mapping[str, Path], path: Path) -> None:
    """Write packages as functions of one, `main` by default; they share equal weights."""
    with quiet():
        from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

        descriptor = MultiFunctionDescriptor()
        for name, package in packages.items():
            descriptor.add_function(str(package), "main", name)
        descriptor.default_function_name = "main"
        save_multifunction(descriptor, str(path))
    for package in packages.values():
        shutil.rmtree(package)


def size_of(folder: Path) -> int:
    """Return the bytes of all packages in a folder."""
    found = folder.glob("*.mlpackage/**/*")
    return sum(path.stat().st_size for path in found if path.is_file())


def labels_of(config: Any) -> list[str]:
    """Return the classes in the order of their numbers, none where they are only numbers."""
    named = getattr(config, "id2label", None) or {}
    labels = [str(named[number]) for number in sorted(named)]
    plain = [f"LABEL_{number}" for number in range(len(labels))]
    return [] if labels == plain else labels


def _dtype(tensor: Any, floats: Any) -> Any:
    return floats if tensor.is_floating_point() else np.int32


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_LONGEST]


_WORDS = {
    "input_ids": "Token ids of the tokenizer beside the model",
    "attention_mask": "1 for a token, 0 for padding",
    "token_type_ids": "0 for the first text, 1 for the second",
    "pixel_values": "The picture as preprocessor_config.json says",
    "input_values": "The sound as preprocessor_config.json says",
    "input_features": "The spectrogram as preprocessor_config.json says",
    "position": "The place of the first token in the text",
    "last_hidden_state": "A vector for each token",
    "logits": "Scores, before softmax",
}
