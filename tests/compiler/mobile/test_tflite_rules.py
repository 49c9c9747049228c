"""TFLite before any work: engines, precisions, options, and where integers cannot be right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_tflite import tiny_tflite

from edgeward.compiler.formats import tflite
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.tflite_delegate_tables import DELEGATES
from edgeward.compiler.formats.tflite_delegates import absorbed, is_integer, left_by, words
from edgeward.compiler.formats.tflite_options import contained, for_mediapipe, slots_of
from edgeward.compiler.formats.tflite_rules import float_products, refuse_static_graph
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.shapes import FixedShapes
from edgeward.compiler.source import Source
from edgeward.compiler.tasks import TASKS
from edgeward.compiler.tolerances import tolerances_for
from edgeward.errors import UnsupportedError, UsageError
from edgeward.runtimes.engines.litert_file import (
    FileGraph,
    FileOperator,
    FileTensor,
    TFLiteFile,
    parse_tflite,
)
from edgeward.runtimes.engines.litert_operators import OPERATORS
from edgeward.targets.load import load, names

SHAPES = FixedShapes((("batch", (1,)), ("sequence", (64, 128))))


def job(
    folder: Path,
    target: str = "android-mid",
    precision: str = "int8-dynamic",
    *,
    task: str = "feature-extraction",
    engine: str | None = None,
    options: Mapping[str, tuple[str, ...]] | None = None,
    **config: Any,
) -> Job:
    (folder / "config.json").write_text(json.dumps(config))
    source = Source(
        folder=folder, id="org/tiny", revision="", license="", architecture="X",
        model_type="x", task=task, weights_sha256="0" * 64, digest="d", files=(), weight_bytes=1,
    )  # fmt: skip
    shapes = FixedShapes() if TASKS[task].generates else SHAPES
    return Job(
        source, load(target), recipe_for("tflite", precision), shapes=shapes, engine=engine,
        options=options or {},
    )  # fmt: skip


def test_every_precision_has_limits_for_every_task_and_a_target() -> None:
    taken = {p for name in names() for p in load(name).formats.get("tflite", ())}
    assert taken == set(tflite.precisions())
    for precision in tflite.precisions():
        for task in tflite.coverage().model_types:
            if precision == "int8-static" and TASKS[task].generates:
                continue
            told = tolerances_for(precision, TASKS[task], tflite.tolerances())
            assert told.golden and told.compile_only


@pytest.mark.parametrize("target", ["coral-edgetpu", "cortex-m7", "raspberry-pi-5", "android-low"])
def test_each_target_has_an_engine_to_be_proved_in(tmp_path: Path, target: str) -> None:
    tflite.check(job(tmp_path, target, load(target).formats["tflite"][0]))


def test_a_target_without_such_an_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="kiosk-x86 runs no TFLite"):
        tflite.check(job(tmp_path, "kiosk-x86"))
    with pytest.raises(UnsupportedError, match="llama runs no TFLite"):
        tflite.check(job(tmp_path, "raspberry-pi-5", engine="llama"))


def test_the_older_runtime_is_proved_in_when_it_is_asked_for(tmp_path: Path) -> None:
    plain = tflite.engine_options(job(tmp_path, "raspberry-pi-5"))
    older = tflite.engine_options(job(tmp_path, "raspberry-pi-5", engine="tflite-runtime"))
    assert (plain["engine"], plain["proved_in"]) == ("litert", "2.3.0")
    assert (older["engine"], older["proved_in"]) == ("tflite-runtime", "2.14.0")


def test_weights_in_blocks_are_not_for_the_older_runtime(tmp_path: Path) -> None:
    tflite.check(job(tmp_path, "raspberry-pi-5", "int4-weights"))
    older = job(tmp_path, "raspberry-pi-5", "int4-weights", engine="tflite-runtime")
    with pytest.raises(UnsupportedError, match="tflite-runtime does not load int4-weights"):
        tflite.check(older)


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 12},
        {"num_attention_heads": [1, 2, 2, 4]},
        {"encoder_attention_heads": 2},
        {"n_head": 4},
        {"text_config": {"num_attention_heads": 8}},
    ],
)
def test_attention_in_static_integers_is_refused_in_words(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    tflite.check(job(tmp_path, precision="int8-dynamic", **config))
    with pytest.raises(UnsupportedError, match="cannot be int8 throughout") as caught:
        tflite.check(job(tmp_path, precision="int8-static", **config))
    assert "attention" in caught.value.why
    assert "int8-dynamic" in caught.value.next


def test_convolutions_may_be_static(tmp_path: Path) -> None:
    tflite.check(job(tmp_path, precision="int8-static", hidden_sizes=[16, 24], depths=[1, 1]))


def graph(operators: list[FileOperator], constant: tuple[int, ...] = ()) -> TFLiteFile:
    tensors = [FileTensor(str(n), "float32", (2, 2), 16 if n in constant else 0) for n in range(9)]
    return TFLiteFile([FileGraph(tensors, operators, (0,), (8,))], [], {})


def test_a_graph_that_multiplies_activations_is_refused() -> None:
    product = FileOperator("BATCH_MATMUL", 1, (0, 1), (2,))
    refuse_static_graph(graph([product], constant=(1,)))
    with pytest.raises(UnsupportedError, match="cannot be int8 throughout"):
        refuse_static_graph(graph([product]))


def test_a_product_with_a_constant_on_its_left_is_found_by_its_output() -> None:
    product = FileOperator("BATCH_MATMUL", 1, (0, 1), (2,))
    dense = FileOperator("FULLY_CONNECTED", 1, (0, 1), (3,))
    for left in ((0, 1), (0,)):
        assert float_products(graph([dense, product], constant=left)) == ["2"]
    assert float_products(graph([dense, product], constant=(1,))) == []


def test_the_first_signature_is_the_largest_and_the_one_tools_look_for(tmp_path: Path) -> None:
    assert tflite.signatures(job(tmp_path)) == {
        "serving_default": {"batch": 1, "sequence": 128},
        "batch1_sequence64": {"batch": 1, "sequence": 64},
    }


def test_generators_have_slots_by_their_context(tmp_path: Path) -> None:
    def slots(limit: int, **options: tuple[str, ...]) -> Any:
        given = {name.replace("_", "-"): values for name, values in options.items()}
        one = job(tmp_path, task="text-generation", options=given, max_position_embeddings=limit)
        return slots_of(one)

    assert slots(8192).context == 1024
    assert slots(390).context == 390
    assert slots(8192).signatures == {"prefill_128": 128, "decode": 1}
    found = slots(8192, context_length=("2048",), prefill=("64", "256"))
    assert found.context == 2048
    assert found.signatures == {"prefill_256": 256, "prefill_64": 64, "decode": 1}
    assert slots_of(job(tmp_path)) is None
    heard = job(tmp_path, task="automatic-speech-recognition", max_target_positions=448)
    found = slots_of(heard)
    assert found is not None
    assert (found.context, found.signatures) == (448, {"prefill_32": 32, "decode": 1})


@pytest.mark.parametrize(
    ("task", "options", "words_"),
    [
        ("text-generation", {"context-length": ("9000",)}, "cannot be"),
        ("text-generation", {"context-length": ("100",)}, "cannot be"),
        ("text-generation", {"context-length": ("600", "700")}, "given 2 times"),
        ("text-generation", {"prefill": ("0",)}, "no number"),
        ("text-generation", {"prefill": ("x",)}, "no number"),
        ("text-generation", {"prefill": ("²",)}, "no number"),
        ("feature-extraction", {"prefill": ("64",)}, "for models that write"),
        ("feature-extraction", {"rotation": ("up",)}, "not known"),
        ("feature-extraction", {"litertlm": ("yes",)}, "for text generators"),
        ("automatic-speech-recognition", {"litertlm": ("yes",)}, "for text generators"),
        ("text-generation", {"litertlm": ("perhaps",)}, "yes or no"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, task: str, options: Any, words_: str
) -> None:
    with pytest.raises(UsageError, match=words_):
        tflite.check(job(tmp_path, task=task, options=options, max_position_embeddings=8192))


def test_a_container_is_made_where_it_is_asked_for(tmp_path: Path) -> None:
    def asked(*words: str) -> bool:
        return contained(job(tmp_path, task="text-generation", options={"litertlm": words}))

    assert [asked(), asked("yes"), asked("True"), asked("no")] == [False, True, True, False]


def test_only_dynamic_integers_are_rotated(tmp_path: Path) -> None:
    turned = {"rotation": ("hadamard",)}
    assert tflite.engine_options(job(tmp_path, options=turned))["rotation"] == "hadamard"
    with pytest.raises(UsageError, match="has no rotation"):
        tflite.check(job(tmp_path, precision="fp16", options=turned))


def test_what_lies_between_a_parts_ends_is_absorbed() -> None:
    chain = [
        FileOperator("CAST", 1, (0,), (1,)),
        FileOperator("ADD", 1, (1, 5), (2,)),
        FileOperator("MUL", 1, (2, 1), (3,)),
        FileOperator("GELU", 1, (3,), (4,)),
    ]
    (only,) = graph(chain).graphs
    assert absorbed(only, {1, 5}, [3]) == {1, 2}
    assert absorbed(only, {0, 5}, [4]) == {0, 1, 2, 3}


def test_the_tables_name_operators_that_there_are() -> None:
    assert [delegate.name for delegate in DELEGATES] == ["GPU", "NNAPI", "QNN", "Edge TPU"]
    for delegate in DELEGATES:
        assert delegate.operators <= set(OPERATORS)
        assert delegate.source.startswith("https://")


def left(name: str, operator: str, *shapes: tuple[int, ...], blocks: bool = False) -> str:
    """What a delegate says of an operator between tensors of such shapes, the first a constant."""
    delegate = next(one for one in DELEGATES if one.name == name)
    constant = FileTensor("w", "int4", (9, 8, 7, 6, 5), 4, 8, blocks)
    tensors = [constant, *(FileTensor("t", "float32", shape, 0) for shape in shapes)]
    ports = tuple(range(len(tensors)))
    one = FileOperator(operator, 1, (*ports[:-1], -1), ports[-1:])
    return left_by(delegate, FileGraph(tensors, [one], (), ()), one)


def test_what_a_delegate_leaves_is_told_with_why() -> None:
    flat, five = (2, 3), (1, 2, 3, 4, 5)
    assert left("GPU", "BROADCAST_TO", flat, flat) == "BROADCAST_TO"
    assert left("GPU", "GELU", flat, flat) == ""
    assert left("GPU", "RESHAPE", flat, five) == "RESHAPE of 5 axes"
    assert left("QNN", "RESHAPE", flat, five) == ""
    assert left("QNN", "FULLY_CONNECTED", flat, flat, blocks=True) == "FULLY_CONNECTED in blocks"
    assert left("GPU", "FULLY_CONNECTED", flat, flat, blocks=True) == ""


def test_a_batch_of_one_is_no_axis_of_the_edge_tpu() -> None:
    assert left("Edge TPU", "ADD", (1, 8, 8, 3), (1, 1, 1)) == ""
    assert left("Edge TPU", "ADD", (2, 8, 8, 3), (1, 1, 1)) == "ADD of 4 axes"


def test_what_is_left_is_told_in_words() -> None:
    told = words({"XNNPACK": Counter(), "GPU": Counter({"GELU": 2, "CAST": 1})})
    assert told == "XNNPACK leaves nothing; GPU leaves CAST 1, GELU 2"


def test_a_file_of_integers_is_known_by_its_ends() -> None:
    floats = parse_tflite(memoryview(tiny_tflite({"a": [1, 2]})))
    integers = parse_tflite(memoryview(tiny_tflite({"a": [1, 2]}, integers=True)))
    assert [is_integer(floats), is_integer(integers)] == [False, True]


def test_mediapipe_is_for_tasks_that_it_has_and_for_floats(tmp_path: Path) -> None:
    yes = {"mediapipe": ("yes",)}
    assert for_mediapipe(job(tmp_path, options=yes))
    assert not for_mediapipe(job(tmp_path, options={"mediapipe": ("no",)}))
    assert not for_mediapipe(job(tmp_path))
    with pytest.raises(UnsupportedError, match="no class for fill-mask"):
        tflite.check(job(tmp_path, task="fill-mask", options=yes))
    with pytest.raises(UnsupportedError, match="no file of int8-static"):
        tflite.check(
            job(tmp_path, precision="int8-static", task="image-classification", options=yes)
        )
    with pytest.raises(UsageError, match="mediapipe=perhaps is not known"):
        tflite.check(job(tmp_path, options={"mediapipe": ("perhaps",)}))
