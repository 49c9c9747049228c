"""An encoder and a decoder as two ONNX graphs; what the decoder looks back at is computed once.

Runs inside the `onnx` toolchain. `encoder.onnx` reads and gives, beside its last states, the keys
and values that each of the decoder's layers looks at; `model.onnx` takes them and its own past.
Names are those of optimum's `decoder_with_past_model`; here it takes a past of length 0 as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeward.compiler.reference_model import load_model, load_tokenizer
from edgeward.compiler.sequence_sources import open_sources
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.tasks import task_spec
from edgeward.errors import UnsupportedError

from .onnx_assets import copy_assets
from .onnx_exporter import exported
from .onnx_program import check, first_line, save, signature
from .onnx_tied import tie_weights

_SOURCE_MASK = "encoder_attention_mask"
_READ = "encoder_sequence"
_PAST_TOKENS, _NEW_TOKENS = 5, 3


def export(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Export both graphs: `model.onnx` that writes, `encoder.onnx` that reads, and `assets/`."""
    spec, folder = task_spec(params["task"]), context.inputs["source"]
    context.progress(0.05, "loading the model")
    model = load_model(folder, spec.auto_class)
    sources = open_sources(spec.modality, folder, model)
    given, axes = sources.traced(), sources.axes()
    context.progress(0.15, "tracing the encoder")
    encoder = _trace(_encoder(model), given, _dynamic(axes), params["opset"])
    _name_axes(encoder.graph, axes)
    context.progress(0.5, "tracing the decoder")
    decoder = _decoder_program(model, given, params["opset"])
    nodes = {"encoder": len(encoder.graph), "decoder": len(decoder.graph)}
    for program, name in ((encoder, "encoder.onnx"), (decoder, "model.onnx")):
        save(program, context.out / name)
        check(context.out / name)
    copy_assets(folder, context.out / "assets", params["files"], load_tokenizer(folder))
    described = ", ".join(f"{name} {count} nodes" for name, count in nodes.items())
    return {
        **signature(decoder),
        "opset": decoder.opset_imports[""],
        "ir_version": decoder.ir_version,
        "nodes": nodes,
        "summary": f"{type(model).__name__}, opset {params['opset']}, {described}",
    }


def _encoder(model: Any) -> Any:
    """A module that reads, and runs the decoder once to see what its layers look back at."""
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
        def __init__(self) -> None:
            super().__init__()
            self.model, self.config = model, model.config

        def forward(
            self, input_ids: Any = None, input_features: Any = None, attention_mask: Any = None
        ) -> dict[str, Any]:
            given = input_features if input_ids is None else input_ids
            masked = {} if attention_mask is None else {"attention_mask": attention_mask}
            states = self.model.get_encoder()(given, **masked).last_hidden_state
            cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
            self.model.get_decoder()(
                input_ids=torch.zeros((given.shape[0], 1), dtype=torch.int64),
                encoder_hidden_states=states,
                past_key_values=cache,
                use_cache=True,
                **{f"encoder_{name}": mask for name, mask in masked.items()},
            )
            layers = _layers(cache.cross_attention_cache, "present", "encoder")
            return {"last_hidden_state": states, **layers}

    return Encoder().eval()


def _decoder(model: Any) -> Any:
    """A module that writes behind a past; the encoder's states themselves are not read."""
    import torch
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    class Decoder(torch.nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
        def __init__(self) -> None:
            super().__init__()
            self.model, self.config = model, model.config

        def forward(
            self, input_ids: Any, past: Any, crossed: Any, encoder_attention_mask: Any = None
        ) -> dict[str, Any]:
            cache = EncoderDecoderCache(
                _filled(DynamicCache(), past), _filled(DynamicCache(), crossed)
            )
            rows, _, length, _ = crossed[0].shape
            unread = crossed[0].new_zeros((rows, length, self.config.d_model))
            mask = encoder_attention_mask
            found = self.model(
                decoder_input_ids=input_ids,
                encoder_outputs=BaseModelOutput(last_hidden_state=unread),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
                **({} if mask is None else {"attention_mask": mask}),
            )
            own = found.past_key_values.self_attention_cache
            return {"logits": found.logits, **_layers(own, "present", "decoder")}

    return Decoder().eval()


def _filled(cache: Any, states: Any) -> Any:
    for number in range(len(states) // 2):
        cache.update(states[2 * number], states[2 * number + 1], number)
    return cache


def _layers(cache: Any, prefix: str, side: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, layer in enumerate(cache.layers):
        found[f"{prefix}.{number}.{side}.key"] = layer.keys
        found[f"{prefix}.{number}.{side}.value"] = layer.values
    return found


def _decoder_program(model: Any, given: Mapping[str, Any], opset: int) -> Any:
    """Trace with a past, and several tokens behind it: an axis of one would be fixed at one."""
    import torch
    from torch.export import Dim

    with torch.no_grad():
        read = _encoder(model)(**given)
        crossed = [states for name, states in read.items() if name.startswith("present.")]
        past = _past(model, read["last_hidden_state"], given.get("attention_mask"))
    rows = crossed[0].shape[0]
    inputs = {"input_ids": _tokens(model, rows, _NEW_TOKENS), "past": past, "crossed": crossed}
    length = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    shapes: dict[str, Any] = {
        "input_ids": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC},
        "past": [length] * len(past),
        "crossed": [length] * len(crossed),
    }
    if "attention_mask" in given:
        inputs[_SOURCE_MASK] = given["attention_mask"]
        shapes[_SOURCE_MASK] = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    program = _trace(_decoder(model), inputs, shapes, opset)
    _name_states(program.graph)
    axes = {
        "input_ids": {0: "batch", 1: "sequence"},
        "logits": {0: "batch", 1: "sequence"},
        _SOURCE_MASK: {0: "batch", 1: _READ},
    }
    for value in [*program.graph.inputs, *program.graph.outputs]:
        if ".encoder." in value.name:
            axes[value.name] = {0: "batch", 2: _READ}
        elif ".decoder." in value.name:
            axes[value.name] = {0: "batch", 2: "total" if "present" in value.name else "past"}
    _name_axes(program.graph, axes)
    tie_weights(program)
    return program


def _past(model: Any, states: Any, mask: Any) -> list[Any]:
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    model(
        decoder_input_ids=_tokens(model, states.shape[0], _PAST_TOKENS),
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        past_key_values=cache,
        use_cache=True,
        **({} if mask is None else {"attention_mask": mask}),
    )
    return list(_layers(cache.self_attention_cache, "past", "decoder").values())


def _tokens(model: Any, rows: int, count: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, int(model.config.vocab_size), (rows, count), generator=generator)


def _trace(module: Any, inputs: Mapping[str, Any], shapes: Any, opset: int) -> Any:
    from transformers.exporters import OnnxConfig

    config = OnnxConfig(opset_version=opset, dynamic_shapes=shapes)
    try:
        return exported(module, inputs, config)
    except (TypeError, AttributeError, ValueError) as error:
        raise UnsupportedError(
            f"{type(module.model).__name__} is not an encoder and decoder with a cache of keys "
            "and values",
            why=first_line(error),
        ) from error


def _dynamic(axes: Mapping[str, Mapping[int, str]]) -> dict[str, Any]:
    from torch.export import Dim

    return {name: dict.fromkeys(named, Dim.DYNAMIC) for name, named in axes.items()}


def _name_states(graph: Any) -> None:
    """The tracer numbers what came in lists: keys and values in turn, layer after layer."""
    sides = {"past.": "decoder", "crossed.": "encoder"}
    for value in graph.inputs:
        for prefix, side in sides.items():
            if value.name.startswith(prefix):
                number = int(value.name.removeprefix(prefix))
                kind = ("key", "value")[number % 2]
                value.name = f"past_key_values.{number // 2}.{side}.{kind}"


def _name_axes(graph: Any, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Name the free axes; what the encoder gives has its batch and its length in common."""
    import onnx_ir

    for value in [*graph.inputs, *graph.outputs]:
        named = axes.get(value.name) or ({0: "batch"} | _given_by_reading(value.name))
        value.shape = onnx_ir.Shape(
            [
                axis if isinstance(axis, int) else named.get(place, axis.value)
                for place, axis in enumerate(value.shape)
            ]
        )


def _given_by_reading(name: str) -> dict[int, str]:
    return {1: _READ} if name == "last_hidden_state" else {2: _READ}
