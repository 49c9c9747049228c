"""A profile corrected from records: the shares that the devices reached come out again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typed import typed

from edgeward.errors import UsageError
from edgeward.runtimes.bundle.read import Bundle, open_bundle
from edgeward.runtimes.bundle.write import writing_bundle
from edgeward.targets.bench.correction import correct, with_share
from edgeward.targets.bench.predicted import FIGURES, Predictor, facts_of
from edgeward.targets.bench.store import VARIABLE, Store
from edgeward.targets.load import load

TARGET = "jetson-orin-nano"
CONFIGS = Path(__file__).parent / "plan" / "configs"
PROMPTS = (32, 128, 512)


def planned_bundle(folder: Path, model: str, task: str) -> Bundle:
    """Write a bundle whose configuration is a published model's; nothing of it runs."""
    config = json.loads((CONFIGS / f"{model}.json").read_text())["config"]
    with writing_bundle(folder) as writer:
        writer.add_bytes("model.onnx", model.encode())
        writer.add_bytes("config.json", json.dumps(config).encode())
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": model,
                "task": task,
                "entry": "model.onnx",
                "source": {"id": model, "architecture": "X", "weights_sha256": "0" * 64},
                "target": {"name": TARGET, "digest": "0" * 64},
                "recipe": {"format": "onnx", "precision": "fp16"},
                "files": [entry.model_dump() for entry in writer.files()],
                "inputs": [],
                "outputs": [],
                "proof": {"verified": "engine", "checks": []},
            }
        )
    return open_bundle(folder)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "writer"
    return planned_bundle(folder, "smollm2-135m", "text-generation")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "encoder"
    return planned_bundle(folder, "bert-base-uncased", "feature-extraction")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench.sqlite"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgeward" / "targets" / f"{TARGET}.toml"


def records(
    bundle: Bundle, shares: dict[str, float], noise: Sequence[float] = (1.0, 1.0, 1.0)
) -> list[dict[str, Any]]:
    """What a device would measure that reaches these shares of its profile."""
    profile = load(TARGET)
    for share, value in shares.items():
        profile = with_share(profile, share, value)
    predictor = Predictor(bundle, [profile], facts_of(bundle))
    found = []
    for number, (prompt, factor) in enumerate(zip(PROMPTS, noise, strict=True)):
        record: dict[str, Any] = {
            "test_time": f"2026-01-0{number + 1}T00:00:00Z",
            "device": f"board-{number}",
            "device_target": TARGET,
            "bundle_digest": bundle.digest,
            "bundle_folder": str(bundle.path),
            "scenario": "SingleStream",
            "n_threads": 0,
            "batch": 1,
            "n_prompt": prompt,
            "n_gen": 0 if bundle.manifest.task == "feature-extraction" else 64,
            "valid": True,
            "noisy": False,
        }
        planned = predictor.beside(record)
        figures = {
            name: planned[f"predicted_{name}"] for name in FIGURES if f"predicted_{name}" in planned
        }
        found.append(
            {**record, **{FIGURES[name]: value * factor for name, value in figures.items()}}
        )
    return found


def test_what_ran_on_a_processor_is_held_against_a_processors_profile(encoder: Bundle) -> None:
    known = [load("h100"), load("x86-64-amx"), load("x86-64-cpu")]
    ran = {"n_prompt": 128, "n_gen": 0, "batch": 1, "n_threads": 0}
    ran |= {"peak_memory_bytes": 400 << 20, "served_p50_ms": 3.0}

    def beside(backend: str, *names: str) -> dict[str, Any]:
        profiles = [each for each in known if each.name in names] or known
        return Predictor(encoder, profiles, facts_of(encoder)).beside({**ran, "backends": backend})

    on_gpu = beside("CUDAExecutionProvider")
    assert on_gpu["predicted_for"] == "h100"
    assert on_gpu["latency_ms_error_percent"] is not None
    assert on_gpu["peak_memory_bytes_error_percent"] is None
    assert "the GPU's" in on_gpu["predicted_note"]
    on_processor = beside("CPUExecutionProvider")
    assert on_processor["predicted_for"] == "x86-64-amx"
    assert on_processor["peak_memory_bytes_error_percent"] is not None
    nowhere = beside("CUDAExecutionProvider", "x86-64-amx", "x86-64-cpu")
    assert nowhere["predicted_for"] is None
    assert (
        nowhere["predicted_note"] == "no profile of this machine runs it on CUDAExecutionProvider"
    )
    assert beside("CUDAExecutionProvider", "x86-64-cpu")["predicted_for"] == "x86-64-cpu"


@pytest.mark.parametrize(("bandwidth", "compute"), [(0.35, 0.2), (0.8, 0.05), (0.1, 0.6)])
def test_the_shares_that_were_reached_come_out(
    writer: Bundle, bandwidth: float, compute: float
) -> None:
    shares = {"bandwidth": bandwidth, "compute": compute}
    correction = correct(TARGET, records(writer, shares))
    found = {each.share: each for each in correction.shares}
    assert {name: each.value for name, each in found.items()} == pytest.approx(shares, rel=0.02)
    assert all(abs(each.error_after) < 1.0 for each in found.values())
    assert all(abs(each.error_before) > 5.0 for each in found.values())


def test_one_record_that_is_far_off_does_not_carry_the_others_away(writer: Bundle) -> None:
    shares = {"bandwidth": 0.4, "compute": 0.3}
    correction = correct(TARGET, records(writer, shares, noise=(1.0, 1.0, 7.0)))
    assert {each.share: each.value for each in correction.shares} == pytest.approx(shares, rel=0.02)


def test_an_encoder_tells_the_rate_alone(encoder: Bundle) -> None:
    correction = correct(TARGET, records(encoder, {"compute": 0.11}))
    assert {each.share: each.value for each in correction.shares} == pytest.approx(
        {"compute": 0.11}, rel=0.02
    )


def test_what_no_share_explains_is_left_alone(encoder: Bundle) -> None:
    with pytest.raises(UsageError, match="No record tells"):
        correct(TARGET, records(encoder, {"compute": 0.5}, noise=(1e-4, 1e-4, 1e-4)))


def test_records_that_do_not_count_are_told(writer: Bundle, tmp_path: Path) -> None:
    good = records(writer, {"bandwidth": 0.5, "compute": 0.3})
    others = [
        {**good[0], "noisy": True},
        {**good[0], "valid": False},
        {**good[0], "n_threads": 1},
        {**good[0], "scenario": "Offline"},
        {**good[0], "bundle_folder": None},
        {**good[0], "bundle_folder": str(tmp_path / "gone")},
    ]
    strange = [{**good[0], "device_target": "jetson-thor"}, {**good[0], "device": None}]
    correction = correct(TARGET, [*good, *others, *strange])
    assert sum(correction.passed_over.values()) == len(others)
    assert [len(each.records) for each in correction.shares] == [3, 3]
    with pytest.raises(UsageError) as caught:
        correct(TARGET, others[:3])
    assert "2 noisy or not valid; 1 with other threads" in caught.value.why
    assert correct(TARGET, others[-2:], [writer.path]).shares, "a bundle that was moved is named"


def test_the_profile_of_ones_own_has_the_source_of_each_number(writer: Bundle, place: Path) -> None:
    store = Store()
    for record in records(writer, {"bandwidth": 0.35, "compute": 0.2}):
        store.append(record)
    ours = load(TARGET)
    said = typed("targets", "calibrate", "--from-bench", TARGET)
    assert said.returncode == 0, said
    assert "median error of the plan" in said.stderr
    own = load(TARGET)
    assert own.hardware.achieved == pytest.approx({"bandwidth": 0.35, "compute": 0.2}, rel=0.02)
    source = own.sources["hardware.achieved.bandwidth"]
    assert source == (
        "measured on board-0, board-1, board-2, 2026-01-01 to 2026-01-03, "
        "3 records of `edgeward bench --on`"
    )
    assert own.hardware.memory_bandwidth_bytes_per_s == ours.hardware.memory_bandwidth_bytes_per_s
    assert typed("targets", "validate", place).returncode == 0
    before = place.read_text()
    assert typed("targets", "calibrate", "--from-bench", TARGET).returncode == 0
    assert place.read_text() == before, "the correction does not build upon itself"


def test_a_profile_that_somebody_wrote_is_not_written_over(writer: Bundle, place: Path) -> None:
    for record in records(writer, {"bandwidth": 0.35, "compute": 0.2}):
        Store().append(record)
    place.parent.mkdir(parents=True)
    place.write_text(f'extends = "{TARGET}"\ntitle = "mine"\n')
    said = typed("targets", "calibrate", "--from-bench", TARGET)
    assert (said.returncode, "is a profile of your own" in said.stderr) == (2, True)
    assert "mine" in place.read_text()
    shown = typed("targets", "calibrate", "--from-bench", TARGET, "-o", "-")
    assert shown.returncode == 0
    assert "[hardware.achieved]" in shown.stdout
    nothing = typed("targets", "calibrate", "--from-bench", "jetson-thor")
    assert nothing.returncode == 2
    assert "no device of that target was measured" in nothing.stderr
