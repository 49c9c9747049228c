"""ONNX Runtime's arena, region by region: what two runs leave of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeward.targets.load import load
from edgeward.targets.plan.arena import held_bytes
from edgeward.targets.plan.engines import cost_of
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.layout_steps import MAP, ROWS, Step, of_a_picture, passed
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.predict import plan_model
from edgeward.targets.profile import Recipe

MIB = 2**20
CONFIGS = Path(__file__).parent / "configs"


def mib(*sizes: float, form: str = MAP) -> Step:
    return passed(*(int(size * MIB / 4) for size in sizes), form=form)


@pytest.mark.parametrize(
    ("steps", "held"),
    [
        ([], 0),
        # One region of a MiB, where the second run's tensor lies too.
        ([mib(1)], 1),
        # A region of one, then of two.
        ([mib(1, 2)], 1 + 2),
        # Regions of one, two and four, of which one is touched.
        ([mib(1, 1, 1, 1)], 1 + 2 + 1),
        # The first is larger than a first region: four, of which three are touched.
        ([mib(3)], 3),
        # What is freed is taken again, the smallest chunk that holds it.
        ([mib(3), mib(2), mib(1)], 3),
        # What does not fit beside another takes a region of its own.
        ([mib(3, 3)], 3 + 3),
    ],
)
def test_regions_double_and_keep_what_was_touched(steps: list[Step], held: float) -> None:
    assert held_bytes(steps) == held * MIB


def test_small_tensors_leave_regions_that_larger_ones_cannot_use() -> None:
    small = [mib(*[1] * 7), mib(1)]
    large = [mib(1, 16)]
    alone, after = held_bytes(large), held_bytes([*small, *large])
    assert after - alone == 6 * MIB


def test_a_form_that_is_kept_stands_beside_what_follows() -> None:
    between = mib(4)
    freed = held_bytes([mib(4), between, mib(4)])
    kept = held_bytes([mib(4, form=ROWS), between, mib(4, form=ROWS)])
    assert freed == 4 * MIB
    assert kept == 2 * freed


def test_a_batch_and_an_engine_that_plans_once_are_told_apart() -> None:
    name = "segformer-b0-ade"
    facts = facts_of(json.loads((CONFIGS / f"{name}.json").read_text())["config"], side=512)
    profile = load("x86-64-cpu")
    one, two = (
        plan_model(facts, profile, Recipe("onnx", "fp32"), batch=batch).memory for batch in (1, 2)
    )
    assert one.activations == facts.arena > 1.5 * 4 * facts.alive
    assert two.activations == 2 * one.activations
    once = plan_model(facts, load("raspberry-pi-5"), Recipe("tflite", "fp32")).memory
    assert once.activations == 4 * facts.alive


def test_convolutions_are_written_anew_while_a_model_is_loaded() -> None:
    facts = facts_of(json.loads((CONFIGS / "detr-resnet-101.json").read_text())["config"], side=64)
    memory = plan_model(facts, load("x86-64-cpu"), Recipe("onnx", "fp32")).memory
    weights = weights_of(facts, "onnx", "fp32")
    assert weights.convolutions > 0.7 * weights.stored
    anew = weights.convolutions + weights.largest_convolution
    loading = weights.stored + anew + weights.largest
    assert memory.total == loading + cost_of("onnxruntime").resident


def test_the_second_run_finds_regions_that_the_first_cut_otherwise() -> None:
    # 2 lies in a region of 2, 8 in one of 8, another 8 in one of 16; all are taken again.
    assert held_bytes([mib(2, 8), mib(8, 8)]) == (2 + 8 + 8) * MIB
    # What was freed is too small for what follows, in either run.
    assert held_bytes([mib(5, 1), mib(9)]) > (5 + 9) * MIB


def test_of_equal_chunks_the_newest_is_taken() -> None:
    # Regions of 8, 8 and 16. Once two are free, another 8 takes the untouched end of the last.
    eight = 8 * MIB // 4
    first = Step(stands=((MAP, eight), (MAP, eight), (ROWS, eight)))
    second = Step(stands=((ROWS, eight), ("other", eight)))
    assert held_bytes([first, second]) == (8 + 8 + 16) * MIB


def test_the_callers_picture_takes_none_of_the_engines_memory() -> None:
    steps = of_a_picture([Step(), mib(64, 1), mib(1, 1)])
    assert held_bytes(steps) == held_bytes([mib(1), mib(1, 1)])
    assert sum(step.moved for step in steps) == 67 * MIB // 4
    assert of_a_picture([Step()]) == (Step(),)
