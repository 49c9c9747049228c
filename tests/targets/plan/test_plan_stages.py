"""Pictures seen in stages: operations as published, and what a larger picture makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.errors import SourceError, UnsupportedError
from edgeward.targets.plan.config import Config
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.latency import Speed, prompt_s
from edgeward.targets.plan.layout_steps import ROWS, SEQUENCE, alive, beside, passed
from edgeward.targets.plan.layouts import STAGED, WALKS
from edgeward.targets.plan.precision import weights_of

CONFIGS = Path(__file__).parent / "configs"


def facts(name: str, side: int | None = None, **changes: object) -> ModelFacts:
    document = json.loads((CONFIGS / f"{name}.json").read_text())["config"]
    return facts_of({**document, **changes}, name=name, side=side)


# Products and sums as pairs, as the papers count them: arXiv:2103.14030 (Swin-T), 2201.03545
# (ConvNeXt-T), 2003.13678 (RegNetY-4.0GF), 1704.04861 and 1801.04381 (MobileNets), 2301.00808.
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("swin-tiny-patch4-window7-224", 4.5e9),
        ("convnext-tiny-224", 4.5e9),
        ("convnextv2-atto-1k-224", 0.55e9),
        ("regnet-y-040", 4.0e9),
        ("mobilenet-v1-1.0-224", 0.569e9),
        ("mobilenet-v2-1.0-224", 0.300e9),
        ("mobilenet-v2-1.4-224", 0.585e9),
    ],
)
def test_operations_are_the_published_ones(name: str, pairs: float) -> None:
    found = facts(name)
    assert (found.operations + found.compared) / 2 == pytest.approx(pairs, rel=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "convnext-tiny-224",
        "swin-tiny-patch4-window7-224",
        "regnet-y-040",
        "mobilenet-v2-1.0-224",
        "mobilevit-small",
        "segformer-b0-ade",
        "glpn-nyu",
        "resnet-50",
    ],
)
def test_twice_the_side_is_four_times_the_operations_and_the_memory(name: str) -> None:
    small, large = facts(name, 448), facts(name, 896)
    assert large.operations / small.operations == pytest.approx(4, rel=0.01)
    moved = [sum(work.moved for work in each.works) for each in (small, large)]
    assert moved[1] / moved[0] > 3.9
    assert large.alive / small.alive == pytest.approx(4, rel=0.01) or large.compared > 0
    assert large.parameters == small.parameters
    assert large.operators == small.operators


def test_windows_keep_attention_from_growing_with_the_square_of_places() -> None:
    windows = [facts("swin-tiny-patch4-window7-224", side) for side in (224, 448)]
    assert windows[1].compared == 4 * windows[0].compared
    assert windows[1].alive == 4 * windows[0].alive
    reduced = [facts("segformer-b0-ade", side) for side in (256, 512)]
    assert reduced[1].compared == 16 * reduced[0].compared
    looked = sum(
        2 * 4 * width * (512 // stride) ** 2 * (512 // stride // reduction) ** 2
        for width, stride, reduction in ((32, 4, 8), (64, 8, 4), (160, 16, 2), (256, 32, 1))
    )
    assert reduced[1].compared == looked


def test_a_picture_that_windows_do_not_divide_is_padded_to_whole_ones() -> None:
    exact, odd, next_exact = (
        facts("swin-tiny-patch4-window7-224", side) for side in (224, 232, 448)
    )
    assert exact.operations < odd.operations < next_exact.operations
    assert odd.compared > (232 / 224) ** 2 * exact.compared


def test_queries_look_at_the_last_map_and_dilation_doubles_its_side() -> None:
    plain, dilated = facts("detr-resnet-50"), facts("detr-resnet-50", dilation=True)
    assert plain.parameters == dilated.parameters
    width, layers, queries, places = 256, 6, 100, 25 * 25
    inside = places**2 * layers + queries**2 * layers + queries * places * layers
    assert plain.compared == 4 * width * inside
    assert dilated.compared > 14 * (plain.compared - 4 * width * queries**2 * layers) / 2
    assert facts("detr-resnet-50", 400).operations < plain.operations / 3


@pytest.mark.parametrize(("name", "backbone"), [("50", "resnet50"), ("101", "resnet101")])
def test_a_backbone_of_timm_is_known_by_its_name(name: str, backbone: str) -> None:
    named = facts(
        f"detr-resnet-{name}", backbone_config=None, use_timm_backbone=True, backbone=backbone
    )
    inside = facts(
        f"detr-resnet-{name}", backbone_config={"model_type": "timm_backbone", "backbone": backbone}
    )
    whole = facts(f"detr-resnet-{name}")
    assert named.tensors == inside.tensors == whole.tensors
    assert named.operations == whole.operations
    with pytest.raises(UnsupportedError, match="be told from config"):
        facts(f"detr-resnet-{name}", backbone_config=None, backbone="efficientnet_b0")


def test_a_head_that_only_training_uses_has_weights_and_takes_no_time() -> None:
    name = "beit-base-finetuned-ade-640-640"
    whole, bare = facts(name), facts(name, use_auxiliary_head=False)
    assert whole.parameters - bare.parameters == 768 * 9 * 256 + 2 * 256 + 150 * 257
    assert whole.operations == bare.operations


def test_what_waits_for_later_stands_in_memory_but_is_not_moved() -> None:
    step = next(beside(beside([passed(4, 6)], 3), 4))
    assert (alive([step]), step.moved) == (17, 10)


def test_a_map_is_freed_and_another_form_kept_until_the_last_of_its_shape() -> None:
    between = passed(100, 50)
    maps = [passed(8, 8), between, passed(8)]
    assert alive(maps) == 150
    rows = [passed(8, 8, form=ROWS), between, passed(8, form=ROWS)]
    assert alive(rows) == 150 + 2 * 8
    assert alive(rows[:2]) == 150
    assert alive([passed(8, 8, form=ROWS), between, passed(8, form=SEQUENCE)]) == 150
    assert alive([]) == 0


# Swin-T's first stage, layer by layer as ONNX Runtime 1.32 plans it: of 3136 places of 96 numbers
# ten tensors, of the 384 between the feed-forward's products two, of 64 windows' scores two.
def test_windows_keep_a_tensor_of_each_shape() -> None:
    places = 3136
    counted = 10 * 96 * places + 2 * 384 * places + 2 * 64 * 3 * 49**2
    found = facts("swin-tiny-patch4-window7-224").alive
    assert found == pytest.approx(counted, rel=0.2)
    assert found >= counted


# SegFormer's head makes four maps as large as the first one's and joins them, 256 numbers a place
# and a quarter of the side each way; the last is made beside three others and what it is made of.
def test_maps_that_are_joined_stand_beside_what_they_make() -> None:
    assert facts("segformer-b0-ade", 512).alive == (5 + 4) * 256 * 128**2


def test_convolutions_stay_floats_where_matrix_products_become_integers() -> None:
    found = facts("mobilenet-v2-1.0-224")
    sizes = {name: weights_of(found, "onnx", name) for name in ("fp32", "int8-dynamic")}
    head = 1001 * 1280
    assert sizes["fp32"].stored - sizes["int8-dynamic"].stored == 3 * head - 4 * 1001
    assert sizes["int8-dynamic"].float_convolutions
    assert found.operations - found.convolved == 2 * head
    whole = weights_of(found, "tflite", "int8-static")
    assert whole.stored < found.parameters * 1.06


def test_every_staged_type_has_a_walk() -> None:
    assert set(WALKS) >= STAGED


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("swin", {"depths": [2**31 - 1, 2, 6, 2]}),
        ("swin", {"depths": [2, 2]}),
        ("convnext", {"depths": [3, -1, 9, 3]}),
        ("segformer", {"sr_ratios": [8, 4]}),
        ("segformer", {"strides": [4, 2, 2, 0]}),
        ("mobilenet_v2", {"depth_multiplier": "wide"}),
        ("mobilenet_v2", {"depth_multiplier": -1.0}),
        ("detr", {"num_queries": 0}),
        ("swin", {"image_size": [0, 0]}),
        ("mobilevit", {"neck_hidden_sizes": [16, 32]}),
        ("mobilevit", {"hidden_sizes": [144]}),
        ("wav2vec2", {"conv_dim": [512]}),
    ],
)
def test_hostile_sizes_are_refused(model_type: str, sizes: dict[str, object]) -> None:
    with pytest.raises(SourceError):
        facts_of({"model_type": model_type, **sizes})


@pytest.mark.parametrize("name", sorted({*WALKS} - {"depth_anything"}))
@pytest.mark.parametrize("size", [1, [1, 7]])
def test_a_picture_of_almost_nothing_is_gone_through(name: str, size: object) -> None:
    config = {"model_type": name, "image_size": size}
    if name in ("resnet", "regnet") and not isinstance(size, int):
        with pytest.raises(SourceError, match="image_size must be a whole number"):
            facts_of(config)
        return
    assert facts_of(config).parameters > 0


def test_a_towers_picture_may_be_told_by_two_sides() -> None:
    found = facts("siglip-base-patch16-224", vision_config={"image_size": [224, 224]})
    assert found.seen == "pictures of 224 x 224"
    assert found.works == facts("siglip-base-patch16-224").works


def test_no_more_is_gone_through_than_any_network_does() -> None:
    with pytest.raises(SourceError, match="operators"):
        facts_of({"model_type": "convnext", "depths": [9_990, 3, 3, 3]})


def test_a_number_with_a_fraction_is_read_within_its_range() -> None:
    config = Config({"ratio": 1.4, "whole": 6, "flag": True, "nothing": float("nan")})
    assert (config.real("ratio", 1.0), config.real("whole", 1.0)) == (1.4, 6.0)
    assert config.real("absent", 0.5) == 0.5
    for name in ("flag", "nothing"):
        with pytest.raises(SourceError, match="must be a number"):
            config.real(name, 1.0)


RATES = Speed(1e9, 4e9, 1e9, 0.0, one_by_one=True)


def test_what_moves_more_than_it_multiplies_takes_the_memorys_time() -> None:
    found = facts("mobilenet-v2-1.0-224")
    weights = weights_of(found, "onnx", "fp32")
    products = found.operations / 4e9
    moved = 4 * sum(work.moved for work in found.works) / 1e9
    steps = prompt_s(found, weights, RATES, 1, 1)
    assert max(products, moved) < steps < products + moved
    folded = prompt_s(found, weights, replace(RATES, one_by_one=False), 1, 1)
    assert folded == pytest.approx(products)
    assert prompt_s(found, weights, RATES, 1, 2) == pytest.approx(2 * steps)


def test_convolutions_take_the_rate_of_floats_where_they_stay_floats() -> None:
    found = facts("resnet-18")
    times = {
        name: prompt_s(
            found, weights_of(found, "onnx", name), replace(RATES, one_by_one=False), 1, 1
        )
        for name in ("int8-dynamic", "int8-static")
    }
    assert times["int8-static"] == pytest.approx(found.operations / 4e9)
    assert times["int8-dynamic"] == pytest.approx(found.operations / 1e9)


def test_operators_that_multiply_nothing_take_time_on_a_processor_alone() -> None:
    found = facts("swin-tiny-patch4-window7-224")
    weights = weights_of(found, "onnx", "fp32")
    quick = replace(RATES, operations_per_s=1e15, float_operations_per_s=1e15)
    slow = prompt_s(found, weights, quick, 1, 1)
    assert slow == pytest.approx(4e-9 * sum(work.moved for work in found.works), rel=0.01)
    once = prompt_s(found, weights, replace(quick, one_by_one=False), 1, 1)
    assert once == pytest.approx(weights.read / 1e9, rel=0.05)
