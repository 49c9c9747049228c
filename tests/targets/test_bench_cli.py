"""`edgeward bench` on real tiny bundles, each combination in a real process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_bundles import decoder_bundle, packed, tensor_bundle, writer_bundle
from tiny_model import make_tiny_bundle
from typed import Done, typed

from edgeward.errors import DoesNotFitError, EdgewardError, MissingError, UsageError
from edgeward.targets.bench.child import Limits, measure_alone
from edgeward.targets.bench.command import llama_rows, parse_command, run_once
from edgeward.targets.bench.request import Request, Sweep, from_json, numbers, scenarios_of
from edgeward.targets.bench.store import VARIABLE, Store

OWN = "x86-64-cpu"
SHORT = ("--min-queries", "3", "--min-duration", "0", "--threads", "1", "--target", OWN)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    make_tiny_bundle(folder / "tiny")
    decoder_bundle(folder / "decoder")
    writer_bundle(folder / "writer")
    tensor_bundle(folder / "tensors")
    return folder


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bench.sqlite"
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return path


def bench(*arguments: object, code: int = 0) -> Done:
    """Run the command in this process; what it measures is in processes of its own."""
    said = typed("bench", *arguments)
    assert said.returncode == code, said
    return said


def records(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench(*arguments, *SHORT, "-o", "json").stdout)
    return found


def test_vectors_are_measured_and_kept(place: Path, store: Path) -> None:
    (record,) = records(place / "tiny", "--batch", "2")
    assert record["task"] == "feature-extraction"
    assert record["query_count"] == len(record["samples_ns"]) == 3
    assert record["throughput_per_s"] > 0
    assert 0 < record["latency_p50_ms"] <= record["latency_p90_ms"] <= record["latency_p99_ms"]
    assert record["load_ms"] > record["latency_p50_ms"]
    assert record["valid"]
    assert record["engine"] == "onnxruntime"
    assert record["n_threads"] == 1
    assert record["batch"] == 2
    assert "ttft_p50_ms" not in record
    (kept,) = Store(store).records()
    assert kept == record


@pytest.mark.slow
def test_a_sweep_measures_every_combination(place: Path) -> None:
    found = records(place / "tensors", "--batch", "1,3", "--prompt", "4,9")
    pairs = [(each["batch"], each["n_prompt"]) for each in found]
    assert pairs == [(1, 4), (1, 9), (3, 4), (3, 9)]
    assert len({each["id"] for each in found}) == 4


def test_a_generator_has_the_figures_of_its_tokens(place: Path) -> None:
    one, several = records(place / "decoder", "--batch", "1,3", "--prompt", "300", "--gen", "5")
    for record, rows in ((one, 1), (several, 3)):
        assert (record["n_prompt"], record["n_gen"]) == (300, 5)
        assert record["ttft_p50_ms"] <= record["latency_p50_ms"]
        assert record["first_ttft_ms"] <= record["first_ms"]
        prompt, answer = record["tests"]
        assert (prompt["test"], prompt["n_prompt"], prompt["n_gen"]) == ("pp300", 300, 0)
        assert (answer["test"], answer["n_prompt"], answer["n_gen"]) == ("tg4", 0, 4)
        for test, tokens in ((prompt, 300 * rows), (answer, 4 * rows)):
            rates = [tokens * 1e9 / each for each in test["samples_ns"]]
            assert test["samples_ts"] == pytest.approx(rates)
            assert test["avg_ts"] == pytest.approx(sum(rates) / len(rates))
        whole = [a + b for a, b in zip(prompt["samples_ns"], answer["samples_ns"], strict=True)]
        assert whole == record["samples_ns"]


def test_predicted_and_measured_stand_side_by_side(place: Path) -> None:
    (record,) = records(place / "decoder", "--gen", "4")
    assert record["predicted_for"] == OWN
    for figure, measured in (
        ("ttft_ms", "ttft_p50_ms"),
        ("tpot_ms", "tpot_p50_ms"),
        ("peak_memory_bytes", "peak_memory_bytes"),
    ):
        error = 100 * (record[f"predicted_{figure}"] / record[measured] - 1)
        assert record[f"{figure}_error_percent"] == pytest.approx(error)


def test_an_encoder_and_decoder_reads_and_writes(place: Path) -> None:
    (record,) = records(place / "writer", "--gen", "4")
    assert record["n_gen"] == 4
    assert record["n_prompt"] > 0
    assert record["tpot_p50_ms"] > 0


def test_a_file_is_measured_with_instead(place: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "gate"}\n\n{"prompt": "where is gate b12"}\n"gate b12"\n')
    (vectors,) = records(place / "tiny", "--data", texts)
    assert vectors["n_prompt"] == 4
    (answer,) = records(place / "decoder", "--data", texts, "--gen", "2")
    assert answer["n_prompt"] == len("gate b12")


def test_a_bundle_without_golden_inputs_needs_a_file(place: Path, tmp_path: Path) -> None:
    bare = packed(tmp_path / "bare", place / ".tiny-model", "feature-extraction", cases=0)
    done = bench(bare.path, *SHORT, code=1)
    assert "carries no golden inputs" in done.stderr
    assert "--data" in done.stderr


def test_server_has_its_own_rate_or_the_one_that_is_told(place: Path) -> None:
    (told,) = records(place / "tiny", "--scenario", "server", "--qps", "50")
    assert told["target_qps"] == 50
    (own,) = records(place / "tiny", "--scenario", "Server", "--latency-bound", "0.000001")
    assert own["target_qps"] > 0
    assert not own["valid"]
    assert "p99" in own["invalid_why"]


def test_a_childs_peak_is_its_own_and_not_its_parents(place: Path) -> None:
    large = bytearray(os.urandom(1024) * 2**19)
    told = measure_alone(Request(str(place / "tiny"), once=True), Limits(memory_bytes=2**33))
    assert told["peak_memory_bytes"] < len(large) / 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--threads", "two"),
        ("--threads", "9999"),
        ("--batch", "0"),
        ("--prompt", "1,,2"),
        ("--scenario", "multi-stream"),
        ("--scenario", "Server", "--batch", "2"),
        ("--min-queries", "0"),
        ("--min-duration", "nan"),
        ("--memory", "much"),
        ("--timeout", "0"),
        ("--prompt", "17"),
        ("--target", "no-such-target"),
        ("--data", "/no/such/file.txt"),
        ("--against", ""),
        ("--against", "true", "--rounds", "2"),
        ("--seed", "-1"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(place: Path, arguments: Sequence[str]) -> None:
    done = bench(place / "tiny", *SHORT, *arguments, code=2)
    assert "rror" in done.stderr
    assert not done.stdout


def test_a_combination_that_fails_leaves_the_others(place: Path) -> None:
    done = bench(place / "tiny", *SHORT, "--prompt", "17,5", "-o", "json", code=2)
    (record,) = json.loads(done.stdout)
    assert record["n_prompt"] == 5
    assert "17 tokens do not fit" in done.stderr


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "damaged")
    bundle.entry.write_bytes(bundle.entry.read_bytes()[:-1] + b"\0")
    assert "sha256 differs" in bench(bundle.path, code=1).stderr
    assert "No bundle" in bench(tmp_path / "nothing", code=1).stderr


def test_a_bundle_too_large_for_memory_does_not_fit(place: Path) -> None:
    done = bench(place / "tiny", "--memory", "20 MiB", *SHORT, code=4)
    assert "bytes of memory" in done.stderr
    with pytest.raises(DoesNotFitError):
        measure_alone(Request(str(place / "tiny")), Limits(memory_bytes=20 * 2**20))


def test_a_missing_engine_has_its_exit_code(place: Path, tmp_path: Path) -> None:
    recipe = {"recipe": {"format": "gguf", "precision": "q8_0"}}
    bundle = make_tiny_bundle(tmp_path / "elsewhere", changes=recipe)
    code = bench(bundle.path, *SHORT, code=5)
    assert "error" in code.stderr
    assert "cannot be started" in bench(place / "tiny", "--python", "/no/python", code=5).stderr


def test_a_child_that_takes_too_long_is_stopped(place: Path) -> None:
    with pytest.raises(EdgewardError, match=r"did not end within 0\.2 seconds"):
        measure_alone(Request(str(place / "tiny")), Limits(seconds=0.2, memory_bytes=2**33))


def test_a_store_that_is_none_is_found_before_anything_is_measured(
    place: Path, store: Path
) -> None:
    store.write_bytes(b"something else" * 1000)
    done = bench(place / "tiny", *SHORT, code=1)
    assert "left as it is" in done.stderr
    assert not done.stdout
    assert store.read_bytes() == b"something else" * 1000


def test_ctrl_c_leaves_the_finished_rows(place: Path, store: Path) -> None:
    command = [sys.executable, "-m", "edgeward", "bench", str(place / "tiny"), "-o", "json"]
    command += [*SHORT, "--batch", "1,2"]
    process = subprocess.Popen(
        [*command, "--scenario", "SingleStream,Offline", "--min-duration", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("[2/4]"):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (record,) = json.loads(out)
    assert (record["batch"], record["id"]) == (1, 1)
    assert len(Store(store).records()) == 1


@pytest.mark.slow
def test_two_bundles_are_measured_in_turn(place: Path, tmp_path: Path, store: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", seed=5)
    done = bench(place / "tiny", "--against", other.path, "--rounds", "5", *SHORT, "-o", "json")
    record = json.loads(done.stdout)
    assert record["rounds"] == 5
    assert record["against_digest"] == other.digest
    for name in ("latency", "load", "memory"):
        ratio = record["ratios"][name]
        assert len(ratio["a"]) == len(ratio["b"]) == 5
        assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert Store(store).records() == [record]
    assert str(other.path) in bench("list").stdout


@pytest.mark.slow
def test_a_command_is_measured_by_its_time(place: Path) -> None:
    command = shlex.join([sys.executable, "-c", "pass"])
    done = bench(place / "tiny", "--against", command, "--rounds", "5", *SHORT, "-o", "csv")
    header, row, *rest = done.stdout.splitlines()
    assert header.startswith("figure,a,b,ratio")
    assert row.startswith("process,")
    assert rest == []
    # A bare interpreter starts faster than one that loads an engine.
    assert row.endswith("B takes less")


@pytest.mark.slow
def test_a_commands_own_rows_are_compared_by_token(place: Path, tmp_path: Path) -> None:
    rows = [
        {"n_prompt": 512, "n_gen": 0, "avg_ns": 512_000},
        {"n_prompt": 0, "n_gen": 10, "avg_ns": 10_000_000_000},
    ]
    script = tmp_path / "bench.py"
    script.write_text(f"import json; print(json.dumps({rows!r}))")
    command = shlex.join([sys.executable, str(script)])
    done = bench(
        place / "decoder", "--against", command, "--rounds", "5", *SHORT, "-o", "json", "--gen", "4"
    )
    ratios = json.loads(done.stdout)["ratios"]
    assert set(ratios) == {"prompt_token", "tpot"}
    assert ratios["prompt_token"]["b"] == [1000.0] * 5
    assert ratios["tpot"]["b"] == [1e9] * 5
    assert ratios["tpot"]["differs"]


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(EdgewardError, match=r"(?s)status 3.*because"):
        run_once(["sh", "-c", "echo because >&2; exit 3"], 60)
    with pytest.raises(MissingError):
        run_once(["/no/such/program"], 60)
    with pytest.raises(EdgewardError, match="did not end"):
        run_once(["sleep", "60"], 0.2)
    for text in ("", "'open"):
        with pytest.raises(UsageError):
            parse_command(text)


@pytest.mark.parametrize(
    ("output", "count"),
    [
        (b'[{"avg_ns": 1}, {"avg_ns": 2}]', 2),
        (b'{"avg_ns": 1}\n{"avg_ns": 2}\n', 2),
        (b"[]", 0),
        (b"took 5 s", 0),
        (b'[{"time": 1}]', 0),
        (b"\xff", 0),
        (b"", 0),
    ],
)
def test_rows_are_told_from_other_output(output: bytes, count: int) -> None:
    assert len(llama_rows(output)) == count


def test_what_was_measured_is_listed_compared_drawn_and_written(
    place: Path, tmp_path: Path
) -> None:
    records(place / "tiny", "--batch", "1,2")
    assert len(bench("list").stdout.splitlines()) == 3
    compared = json.loads(bench("compare", "1", "last", "-o", "json").stdout)
    assert compared[0]["figure"] == "latency_p50_ms"
    assert "batch: 1 and 2" in bench("compare", "1", "2").stderr
    bench("plot", "-o", tmp_path / "bench.svg", "--figure", "memory")
    ElementTree.parse(tmp_path / "bench.svg")  # noqa: S314 - our own file
    assert len(json.loads(bench("export", "-o", "json").stdout)) == 2
    assert len(bench("export", "-o", "csv").stdout.splitlines()) == 3
    assert "No measurement" in bench("compare", "1", "9", code=2).stderr


def test_help_shows_options_and_verbs() -> None:
    told = bench("--help").stdout
    for word in ("Usage: edgeward bench [OPTIONS] BUNDLE", "--scenario", "compare", "export"):
        assert word in told
    verb = bench("compare", "--help").stdout
    assert "Usage: edgeward bench compare [OPTIONS] A B" in verb
    assert "Missing argument 'BUNDLE'" in bench(code=2).stderr


def test_a_folder_with_a_verbs_name_is_a_bundle_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_bundle(tmp_path / "list")
    monkeypatch.chdir(tmp_path)
    assert json.loads(bench("./list", *SHORT, "-o", "json").stdout)[0]["bundle"] == "tiny"


def test_requests_travel_as_they_are() -> None:
    request = Request("b", threads=3, rate=1.5, data="f")
    assert from_json(request.to_json()) == request


def test_lists_are_read_and_bounded() -> None:
    assert numbers("1, 8,1", "--batch") == (1, 8)
    assert scenarios_of("single-stream,OFFLINE") == ("SingleStream", "Offline")
    with pytest.raises(UsageError, match="combinations"):
        Sweep(Request("b"), threads=range(100), batches=range(1, 100)).requests()
