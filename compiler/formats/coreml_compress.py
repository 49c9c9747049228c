"""Reads a saved package, rounds its weights, and saves it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeward.compiler.mil.package import quiet

_FIRST_SPECIFICATION = 7
_FIRST_IOS = 16


def changed(package: Path, target: Path, change: Callable[[Any], Any], ios: int) -> Any:
    """Apply `change` to a package's program and save it at `target`; what it returned.

    Functions go on sharing equal weights, and stay described as they are.
    """
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil.converter import mil_convert
        from coremltools.converters.mil.frontend.milproto.load import load
        from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

        model = ct.models.MLModel(str(package), skip_model_load=True)
        spec = model.get_spec()
        version = max(spec.specificationVersion, _FIRST_SPECIFICATION + ios - _FIRST_IOS)
        program = load(spec, version, model.weights_dir)
        found = change(program)
        if len(program.functions) > 1:
            PASS_REGISTRY["common::const_deduplication"]._deduplicate_const_across_functions(
                program
            )
            program.default_function_name = spec.description.defaultFunctionName
            program.skip_all_passes = True
            program.export_as_multifunction = True
        made = mil_convert(
            program,
            convert_to="mlprogram",
            convert_from="milinternal",
            specification_version=version,
            compute_units=ct.ComputeUnit.CPU_AND_NE,
            model_description=spec.description,
            skip_model_load=True,
        )
        made.save(str(target))
    return found
