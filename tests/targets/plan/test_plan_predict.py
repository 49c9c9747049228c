"""Predictions: what decides memory and time, verdicts with what would make it fit, the command."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from typed import Done, typed

from edgeward.errors import UnsupportedError
from edgeward.targets.load import load
from edgeward.targets.plan.advise import every_plan, overview
from edgeward.targets.plan.predict import Prediction, fits, needed_bytes, plan_model
from edgeward.targets.plan.read import read_facts
from edgeward.targets.profile import Profile, Recipe

CONFIGS = Path(__file__).parent / "configs"
GIB = 2**30
FP32 = Recipe("onnx", "fp32")


def bare(name: str, folder: Path) -> Path:
    """A folder with the published configuration alone."""
    document = json.loads((CONFIGS / f"{name}.json").read_text())
    (folder / name).mkdir()
    path = folder / name / "config.json"
    path.write_text(json.dumps(document["config"]))
    return path.parent


def plan(
    folder: Path, name: str, target: str | Profile, recipe: Recipe, **asked: int
) -> Prediction:
    facts = read_facts(str(bare(name, folder)))
    profile = load(target) if isinstance(target, str) else target
    return plan_model(facts, profile, recipe, **asked)  # type: ignore[arg-type]


def test_tokens_follow_the_bandwidth_and_prompts_the_rate(tmp_path: Path) -> None:
    facts = read_facts(str(bare("smollm2-135m", tmp_path)))
    profile = load("raspberry-pi-5")
    hardware = profile.hardware
    base = plan_model(facts, profile, FP32, context=1024)
    wider = replace(
        hardware, memory_bandwidth_bytes_per_s=2 * hardware.memory_bandwidth_bytes_per_s
    )
    other = plan_model(facts, replace(profile, hardware=wider), FP32, context=1024)
    assert base.tpot_s and other.tpot_s and base.ttft_s and other.ttft_s
    cached = sum(layer.numbers(1024) for layer in facts.cache)
    read = (facts.parameters + cached) * 4 / (0.7 * hardware.memory_bandwidth_bytes_per_s)
    assert base.tpot_s - other.tpot_s == pytest.approx(read / 2, rel=0.02)
    assert base.ttft_s == other.ttft_s


def test_attention_stays_in_floats_where_weights_are_rounded(tmp_path: Path) -> None:
    facts = read_facts(str(bare("whisper-tiny", tmp_path)))
    profile = load("raspberry-pi-5")
    rates = {rate: profile.hardware.rate(rate, ("cpu",)) for rate in ("fp32", "int8")}
    assert rates["fp32"] and rates["int8"]
    whole, rounded = (
        plan_model(facts, profile, Recipe("onnx", precision)).ttft_s
        for precision in ("fp32", "int8-dynamic")
    )
    assert whole and rounded
    seen, width, layers = 1500, 384, 4
    compared = 4 * layers * width * (seen * seen + 4 * 4) / (0.5 * rates["fp32"])
    beside = compared + 2 * layers * 80e-6
    weighed = (whole - beside) * rates["fp32"] / rates["int8"]
    assert rounded == pytest.approx(weighed + beside, rel=0.02)


def test_what_was_measured_replaces_the_usual_share_of_the_peak(tmp_path: Path) -> None:
    facts = read_facts(str(bare("smollm2-135m", tmp_path)))
    profile = load("raspberry-pi-5")
    full = replace(profile.hardware, achieved={"bandwidth": 1.0, "compute": 1.0})
    usual = plan_model(facts, profile, FP32, context=128).tpot_s
    best = plan_model(facts, replace(profile, hardware=full), FP32, context=128).tpot_s
    assert usual and best
    assert usual / best == pytest.approx(1 / 0.7, rel=0.03)


def test_a_longer_context_costs_cache_and_time(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.2-1b", tmp_path)))
    profile = load("raspberry-pi-5")
    short, long = (plan_model(facts, profile, FP32, context=n) for n in (1024, 8192))
    assert long.memory.cache == 8 * short.memory.cache
    assert short.tpot_s and long.tpot_s and long.tpot_s > short.tpot_s
    assert short.users and long.users and short.users > 7 * long.users


def test_more_sequences_share_the_weights(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.2-1b", tmp_path)))
    profile = load("jetson-agx-orin")
    one = plan_model(facts, profile, Recipe("onnx", "fp16"), context=512)
    many = plan_model(facts, profile, Recipe("onnx", "fp16"), context=512, concurrency=8)
    assert many.memory.weights == one.memory.weights
    assert many.memory.cache == 8 * one.memory.cache
    assert one.tokens_per_s and many.tokens_per_s and many.tokens_per_s > 4 * one.tokens_per_s


def test_no_fit_comes_with_the_reason_and_what_would_fit(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.1-8b", tmp_path)))
    profiles = [load("raspberry-pi-5"), load("jetson-agx-orin")]
    rows = every_plan(facts, profiles, context=4096)
    row = next(r for r in rows if (r.target, r.precision) == ("raspberry-pi-5", "fp16"))
    assert not row.fits
    assert row.reason.startswith("needs ")
    assert "target jetson-agx-orin" in row.remedies


def test_a_context_that_is_too_long_is_told_with_one_that_fits(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.2-3b", tmp_path)))
    rows = every_plan(facts, [load("jetson-orin-nano")], context=131_072, precision="int4-weights")
    remedy = next(each for each in rows[0].remedies if each.startswith("context "))
    context = int(remedy.partition(" ")[2])
    recipe = Recipe("onnx", "int4-weights")
    assert plan_model(facts, load("jetson-orin-nano"), recipe, context=context).fits
    assert not plan_model(facts, load("jetson-orin-nano"), recipe, context=2 * context).fits


def test_more_than_the_model_takes_is_no_fit(tmp_path: Path) -> None:
    row = plan(tmp_path, "llama-2-7b", "jetson-agx-orin", FP32, context=8192)
    assert row.reason == "the model takes 4096 tokens at most"


def test_fits_agrees_with_what_is_needed(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.2-1b", tmp_path)))
    for precision in ("q4_k_m", "q8_0", "f16"):
        needed = needed_bytes(facts, "gguf", precision, 8192)
        assert fits(facts, precision, 8192, needed, format_name="gguf")
        assert not fits(facts, precision, 8192, needed - 1, format_name="gguf")
    assert fits(facts, "q4_k_m", 8192, 4 * GIB, format_name="gguf")
    with pytest.raises(UnsupportedError, match="knows no size for onnx q9"):
        fits(facts, "q9", 8192, GIB)


@pytest.mark.parametrize(
    ("name", "recipe", "writes"),
    [
        ("bert-base-uncased", FP32, False),
        ("vit-base-patch16-224", FP32, False),
        ("clip-vit-base-patch32", FP32, False),
        ("whisper-base", FP32, True),
        ("t5-small", FP32, True),
        ("qwen3-30b-a3b", Recipe("onnx", "int4-weights"), True),
        ("gemma-3-4b", Recipe("onnx", "fp16"), True),
    ],
)
def test_every_kind_of_model_is_planned(
    tmp_path: Path, name: str, recipe: Recipe, writes: bool
) -> None:
    row = plan(tmp_path, name, "jetson-agx-orin", recipe)
    assert row.ttft_s and row.ttft_s > 0
    assert (row.tpot_s is not None) == writes
    assert row.memory.total > row.memory.weights > 0
    assert row.fits


def test_an_edge_tpu_writes_no_text_and_a_microcontroller_is_small(tmp_path: Path) -> None:
    row = plan(tmp_path, "smollm2-135m", "coral-edgetpu", Recipe("tflite", "int8-static"))
    assert "dynamic state" in row.reason
    small = plan(tmp_path, "vit-base-patch16-224", "cortex-m7", Recipe("tflite", "int8-static"))
    assert not small.fits


def test_a_rented_machine_tells_tokens_a_dollar(tmp_path: Path) -> None:
    row = plan(tmp_path, "llama-3.2-1b", "inf2.xlarge", Recipe("neuron", "bf16"))
    assert row.tokens_per_s and row.tokens_per_dollar
    assert row.tokens_per_dollar == pytest.approx(2 * row.tokens_per_s * 3600 / 0.7582)


def test_the_command_tells_what_a_dollar_buys_and_takes_another_price(tmp_path: Path) -> None:
    model = str(bare("llama-3.2-1b", tmp_path))
    table = edgeward(model, "--target", "h200").stdout
    assert "tok/$" in table
    assert "an hour of h200 $7.912 (us-east-1, 2026-08)" in table
    assert "tok/$" not in edgeward(model, "--target", "raspberry-pi-5").stdout
    own, theirs = (
        json.loads(edgeward(model, "--target", "h200", "-o", "json", *price).stdout)["predictions"][
            0
        ]
        for price in ((), ("--price", "2"))
    )
    assert (own["usd_per_hour"], own["price_region"]) == (7.912, "us-east-1")
    assert (theirs["usd_per_hour"], theirs["price_as_of"]) == (2.0, None)
    ratio = theirs["tokens_per_dollar"] / own["tokens_per_dollar"]
    assert ratio == pytest.approx(7.912 / 2)
    given = edgeward(model, "--target", "raspberry-pi-5", "--price", "0.01")
    assert "$0.01 (as told)" in given.stdout


@pytest.mark.parametrize("price", ["0", "-1", "nan", "inf", "much"])
def test_what_is_no_price_is_refused(tmp_path: Path, price: str) -> None:
    model = str(bare("smollm2-135m", tmp_path))
    assert edgeward(model, "--target", "h200", "--price", price).returncode == 2


def test_a_price_is_of_one_target(tmp_path: Path) -> None:
    model = str(bare("smollm2-135m", tmp_path))
    both = edgeward(model, "--target", "h200", "--target", "h100", "--price", "2")
    assert both.returncode == 2
    assert "name one --target" in both.stderr
    assert edgeward(model, "--price", "2").returncode == 2


def test_the_overview_has_one_row_a_target_and_format(tmp_path: Path) -> None:
    facts = read_facts(str(bare("llama-3.2-1b", tmp_path)))
    profiles = [load("raspberry-pi-5"), load("kiosk-x86"), load("iphone-15-pro")]
    rows = overview(every_plan(facts, profiles), profiles)
    places = [(row.target, row.format) for row in rows]
    assert len(set(places)) == len(places)
    assert {target for target, _ in places} == {profile.name for profile in profiles}


def edgeward(*arguments: str) -> Done:
    return typed("plan", *arguments)


def test_the_command_in_every_form(tmp_path: Path) -> None:
    model = str(bare("llama-3.2-1b", tmp_path))
    asked = ("--target", "jetson-orin-nano", "--target", "raspberry-pi-5", "--context", "2048")
    table = edgeward(model, *asked)
    assert table.returncode == 0
    assert "1.24 B parameters, GQA 32/8, context 2048" in table.stdout
    document = json.loads(edgeward(model, *asked, "-o", "json").stdout)
    assert document["model"]["parameters"] == 1_235_814_400
    rows = document["predictions"]
    lines = edgeward(model, *asked, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["total_bytes"] for line in lines] == [
        row["total_bytes"] for row in rows
    ]
    table_rows = list(csv.DictReader(io.StringIO(edgeward(model, *asked, "-o", "csv").stdout)))
    assert [int(row["total_bytes"]) for row in table_rows] == [row["total_bytes"] for row in rows]
    picture = tmp_path / "memory.svg"
    assert edgeward(model, *asked, "--picture", str(picture)).returncode == 0
    assert ET.fromstring(picture.read_text()).tag.endswith("svg")  # noqa: S314 - our own


def test_the_command_tells_by_its_code_that_nothing_fits(tmp_path: Path) -> None:
    model = str(bare("llama-2-70b", tmp_path))
    named = edgeward(model, "--target", "raspberry-pi-5")
    assert named.returncode == 4
    assert "no: needs" in named.stdout
    assert edgeward(model, "--cache", "q3").returncode == 2
    assert edgeward(model, "--target", "nothing").returncode == 2
    assert edgeward(str(tmp_path / "nowhere")).returncode == 2


def test_a_plan_needs_nothing_heavy(tmp_path: Path) -> None:
    model = str(bare("smollm2-135m", tmp_path))
    code = (
        "import sys; from edgeward.targets.plan.report import report\n"
        f"report({model!r}).render('table')\n"
        "heavy = {'numpy', 'torch', 'transformers', 'onnxruntime', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
