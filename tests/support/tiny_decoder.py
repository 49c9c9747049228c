"""A real but tiny decoder: an ONNX graph with a cache, a tokenizer of bytes, a scripted engine.

The graph sums the tokens that it has seen, cache included, so a cache that is lost, doubled or
out of order changes every token after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import Tensor

SPECIAL = ("<|end|>", "<|im_start|>", "<|im_end|>")
END, START, TURN_END = 0, 1, 2
VOCABULARY = 256 + len(SPECIAL)
CONTEXT = 600
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TEXT_INPUTS = ("input_ids", "attention_mask", "position_ids")
PAST = ("past_key_values.0.key", "past_key_values.0.value")
PRESENT = ("present.0.key", "present.0.value")


def byte_tokenizer() -> Tokenizer:
    """Every byte is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: len(SPECIAL) + number for number, letter in enumerate(letters)}
    vocabulary.update({token: number for number, token in enumerate(SPECIAL)})
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def write_folder(folder: Path, **generation: object) -> Path:
    """Write config, tokenizer, chat template and `onnx/model.onnx`."""
    (folder / "onnx").mkdir(parents=True)
    config = {
        "model_type": "llama",
        "num_attention_heads": 1,
        "hidden_size": 1,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": TURN_END,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(graph(), folder / "onnx" / "model.onnx")
    return folder


def following(ids: Sequence[int]) -> int:
    """What the graph finds likeliest after ids, computed without it."""
    return (sum(ids) * 7 + len(ids)) % VOCABULARY


def graph() -> onnx.ModelProto:
    """Logits are highest at (7 x sum of all tokens + position + 1) mod vocabulary."""
    axes = {"input_ids": "sequence", "attention_mask": "total", "position_ids": "sequence"}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", axes[name]])
        for name in TEXT_INPUTS
    ]
    inputs += [_states(name, "past") for name in PAST]
    logits = ["batch", "sequence", VOCABULARY]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits)]
    outputs += [_states(name, "total") for name in PRESENT]
    make = helper.make_node
    nodes = [
        make("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        make("Unsqueeze", ["ids", "head_axes"], ["new"]),
        *(
            make("Concat", [past, "new"], [present], axis=2)
            for past, present in zip(PAST, PRESENT, strict=True)
        ),
        make("CumSum", [PRESENT[1], "two"], ["sums"]),
        make("Shape", [PAST[0]], ["begin"], start=2, end=3),
        make("Slice", ["sums", "begin", "far", "axis_two"], ["recent"]),
        make("Squeeze", ["recent", "head_axes"], ["sum"]),
        make("Cast", ["position_ids"], ["positions"], to=TensorProto.FLOAT),
        make("Mul", ["sum", "seven"], ["times"]),
        make("Add", ["times", "positions"], ["moved"]),
        make("Add", ["moved", "one"], ["raised"]),
        make("Mod", ["raised", "vocabulary"], ["wanted"], fmod=1),
        make("Unsqueeze", ["wanted", "last"], ["column"]),
        make("Sub", ["every", "column"], ["apart"]),
        make("Abs", ["apart"], ["distance"]),
        make("Neg", ["distance"], ["logits"]),
    ]
    constants = {
        "head_axes": np.array([1, 3], np.int64),
        "two": np.array(2, np.int64),
        "axis_two": np.array([2], np.int64),
        "far": np.array([2**31], np.int64),
        "last": np.array([-1], np.int64),
        "seven": np.array(7, np.float32),
        "one": np.array(1, np.float32),
        "vocabulary": np.array(VOCABULARY, np.float32),
        "every": np.arange(VOCABULARY, dtype=np.float32),
    }
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "tiny", inputs, outputs, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _states(name: str, length: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, length, 1])


class ScriptedEngine:
    """An engine that is not ONNX Runtime and says what it was told, token by token."""

    ref = EngineRef(name="scripted", version="1")

    def __init__(self, script: Sequence[int]) -> None:
        self.inputs = [*TEXT_INPUTS, *PAST]
        self.outputs = ["logits", *PRESENT]
        self._script = list(script)
        self.steps: list[int] = []

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once."""
        return dict(zip(self.outputs, self.run_prepared(inputs, self.outputs), strict=True))

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """The next token of the script is the likeliest, whatever comes in."""
        ids = np.asarray(inputs["input_ids"])
        logits: NDArray[np.float32] = np.zeros((*ids.shape, VOCABULARY), np.float32)
        logits[:, :, self._script[len(self.steps)]] = 9.0
        self.steps.append(ids.shape[1])
        grown = np.zeros((1, 1, np.asarray(inputs["attention_mask"]).shape[1], 1), np.float32)
        return [logits, grown, grown]
