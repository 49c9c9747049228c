"""`bench --on`: what comes back from a device is checked, kept once and shown, whoever sent it."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from bench_bundles import decoder_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typed import Done, typed

from edgeward.errors import DoesNotFitError, EdgewardError, FleetError, ProtocolError, UsageError
from edgeward.fleet.protocol.benchmark import read_benchmark
from edgeward.runtimes.bundle.read import Bundle
from edgeward.targets.bench import elsewhere
from edgeward.targets.bench.compare import compare_rows, unfair
from edgeward.targets.bench.foreign import checked
from edgeward.targets.bench.plot import FIGURES, picture
from edgeward.targets.bench.present import FORMS, list_rows, render
from edgeward.targets.bench.store import VARIABLE, Store
from edgeward.targets.bench.thin import fitted

TARGET = "x86-64-cpu"
Record = dict[str, Any]
Asked = Mapping[str, Any]
EXAMPLES = 60


@dataclass
class Measured:
    job: str
    record: Record | None = None
    error: EdgewardError | None = None


@dataclass
class Device:
    """A fleet of one device that answers with what it was given; keeps what it was asked."""

    answers: list[Measured | BaseException] = field(default_factory=list)
    asked: list[tuple[str, list[Asked], float]] = field(default_factory=list)

    @property
    def jobs(self) -> list[str]:
        return [f"j-{number}" for number in range(1, len(self.answers) + 1)]

    def order(
        self,
        home: Path | None,
        device: str,
        benchmarks: Sequence[Mapping[str, Any]],
        timeout: float,
    ) -> Device:
        self.asked.append((device, list(benchmarks), timeout))
        return self

    def ordered(self, home: Path | None, jobs: Sequence[str]) -> Device:
        return self

    def results(self, wait_seconds: float) -> Iterator[Measured]:
        for answer in self.answers:
            if isinstance(answer, BaseException):
                raise answer
            yield answer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return decoder_bundle(tmp_path_factory.mktemp("elsewhere") / "decoder")


@pytest.fixture(scope="module")
def real(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A record that this machine measured, as a device sends it."""
    place = tmp_path_factory.mktemp("store") / "bench.sqlite"
    short = ("--min-queries", "3", "--min-duration", "0", "--threads", "1", "--gen", "3")
    words = ("bench", bundle.path, *short, "--target", TARGET, "-o", "json")
    said = typed(*words, **{VARIABLE: str(place)})
    (record,) = json.loads(said.stdout)
    del record["id"]
    about = {"device": "kiosk-1", "device_target": TARGET, "served_meanwhile": bundle.digest}
    return {**record, **about, "job": "j-1"}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Device:
    made = Device()
    monkeypatch.setattr(elsewhere, "_fleet", lambda: made)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "bench.sqlite"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return made


def bench(*words: object, code: int = 0) -> Done:
    said = typed("bench", *words)
    assert said.returncode == code, said
    return said


def test_a_sweep_is_asked_for_and_its_records_are_kept(
    device: Device, bundle: Bundle, real: Record
) -> None:
    device.answers = [Measured("j-1", real), Measured("j-2", {**real, "job": "j-2", "id": 77})]
    said = bench(
        bundle.path, "--on", "kiosk-1", "--batch", "1,2", "--gen", "3", "--timeout", "60",
        "--memory", "1 GiB", "--qps", "5", "--scenario", "Server,offline", "-o", "jsonl", code=2,
    )  # fmt: skip
    assert device.asked == [], "Server asks one at a time: nobody is asked for anything"
    said = bench(
        bundle.path, "--on", "kiosk-1", "--batch", "1,2", "--gen", "3", "--timeout", "60",
        "--memory", "1 GiB", "-o", "jsonl",
    )  # fmt: skip
    ((name, asked, timeout),) = device.asked
    assert (name, timeout) == ("kiosk-1", 60.0)
    assert [each["batch"] for each in asked] == [1, 2]
    assert {each["bundle"] for each in asked} == {bundle.digest}
    assert {(each["generate"], each["memory_bytes"]) for each in asked} == {(3, 2**30)}
    found = [json.loads(line) for line in said.stdout.splitlines()]
    assert [record["id"] for record in found] == [1, 2]
    assert Store().records() == found
    assert "j-1 j-2" in said.stderr


def test_no_number_of_tokens_is_sent_where_none_is_told(device: Device, bundle: Bundle) -> None:
    """An agent of before would refuse 0, and takes its own 64."""
    bench(bundle.path, "--on", "kiosk-1")
    ((_, (asked,), _),) = device.asked
    assert "generate" not in asked
    assert read_benchmark(asked).generate == 0


@pytest.mark.parametrize(("given", "asked"), [("active", None), ("0123456789ab", "0123456789ab")])
def test_a_bundle_is_named_as_the_device_knows_it(
    device: Device, real: Record, given: str, asked: str | None
) -> None:
    device.answers = [Measured("j-1", real)]
    bench(given, "--on", "kiosk-1")
    assert device.asked[0][1][0]["bundle"] == asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("0123",), "names no bundle"),
        (("ACTIVE",), "names no bundle"),
        (("active", "--data", "x"), "--data cannot be used with --on"),
        (("active", "--against", "ls", "--python", "p"), "--against, --python cannot"),
        (("active", "--wait", "-1"), "--wait is"),
        (("active", "--wait", "nan"), "--wait is"),
        (("active", "--memory", "much"), "--memory"),
    ],
)
def test_what_a_device_cannot_be_asked_is_a_usage_error(
    device: Device, words: tuple[str, ...], said: str
) -> None:
    assert said in bench(*words, "--on", "kiosk-1", code=2).stderr
    assert device.asked == []


def test_a_combination_that_fails_leaves_the_others(device: Device, real: Record) -> None:
    refused = DoesNotFitError("it takes too much")
    device.answers = [Measured("j-1", error=refused), Measured("j-2", {**real, "job": "j-2"})]
    said = bench("active", "--on", "kiosk-1", "--batch", "1,2", code=4)
    assert "not measured: it takes too much" in said.stderr
    assert len(Store().records()) == 1
    device.answers = [Measured("j-3", error=refused)]
    assert bench("active", "--on", "kiosk-1", code=4).stdout == ""


def test_ctrl_c_leaves_the_jobs_and_says_how_to_see_them(device: Device, real: Record) -> None:
    device.answers = [Measured("j-1", real), KeyboardInterrupt(), Measured("j-3")]
    said = bench("active", "--on", "kiosk-1", "--batch", "1,2,4", code=130)
    assert "edgeward bench fetch j-2 j-3" in said.stderr
    assert "kiosk-1 (x86-64-cpu)" in said.stdout
    assert "while serving" in said.stdout
    device.answers = [Measured("j-1", real), Measured("j-2", {**real, "job": "j-2"})]
    bench("fetch", "j-1", "j-2")
    assert [each["job"] for each in Store().records()] == ["j-1", "j-2"]


def test_a_wait_that_is_over_is_told(device: Device) -> None:
    device.answers = [FleetError("kiosk-1 has not answered yet")]
    assert "not answered" in bench("active", "--on", "kiosk-1", "--wait", "0", code=1).stderr


def test_the_prediction_is_of_the_profile_that_is_here(
    device: Device, bundle: Bundle, real: Record
) -> None:
    """The operator may have a profile of the device's target that the device has not."""
    other = {**real, "predicted_tpot_ms": 1e6, "tpot_ms_error_percent": 5.0}
    device.answers = [Measured("j-1", other)]
    bench(bundle.path, "--on", "kiosk-1")
    (kept,) = Store().records()
    assert kept["predicted_tpot_ms"] < 1e6
    error = 100 * (kept["predicted_tpot_ms"] / kept["tpot_p50_ms"] - 1)
    assert kept["tpot_ms_error_percent"] == pytest.approx(error)
    device.answers = [Measured("j-2", {**other, "job": "j-2"})]
    bench("active", "--on", "kiosk-1")
    assert Store().records()[-1]["predicted_tpot_ms"] == 1e6, "no bundle here: the device's own"


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just({})
    | st.just([])
    | st.just([{}])
    | st.just(["x"])
    | st.just("x" * 3000)
)


@settings(suppress_health_check=list(HealthCheck), max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_no_record_of_a_stranger_stumbles_its_readers(real: Record, data: st.DataObject) -> None:
    record = copy.deepcopy(real)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(record)) | st.text(max_size=6))
        value = data.draw(values)
        if name in ("tests", "samples_ns") and data.draw(st.booleans()):
            value = [*record[name], value]
        record[name] = value
    try:
        found = {"id": 1, **checked(record)}
    except ProtocolError:
        return
    for form in FORMS:
        assert render([found], form)
    assert list_rows([found])
    json.dumps(found, allow_nan=False)
    for figure in FIGURES:
        with contextlib.suppress(UsageError):
            picture([found], figure)
    assert compare_rows(found, {"id": 2, **real})
    list(unfair(found, real))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decode_ts", -1.0),
        ("latency_p50_ms", None),
        ("latency_p90_ms", float("nan")),
        ("peak_memory_bytes", 1e301),
        ("n_threads", True),
        ("batch", 1.5),
        ("noisy", 0),
        ("samples_ns", [1, "2"]),
        ("warnings", "all is well"),
        ("tests", [{"test": "pp1"}]),
        ("tests", [{"test": "pp1", "samples_ns": [1], "tests": []}]),
        ("bundle", "x" * 3000),
        ("bundle", {"name": "tiny"}),
        ("Bundle\x1b[2J", "x"),
    ],
)
def test_a_value_of_another_kind_refuses_the_record(real: Record, name: str, value: object) -> None:
    with pytest.raises(ProtocolError, match="is no record"):
        checked({**real, name: value})


def test_a_record_is_checked_as_it_comes(device: Device, real: Record) -> None:
    assert checked({**real, "id": 9}) == real
    device.answers = [Measured("j-1", {**real, "latency_p50_ms": "fast"})]
    said = bench("active", "--on", "kiosk-1", code=1)
    assert "latency_p50_ms is 'fast'" in said.stderr
    assert Store().records() == []


def test_a_record_is_made_to_fit_and_keeps_its_figures(real: Record) -> None:
    samples = list(range(1_000_000, 1_001_000))
    long = {**real, "samples_ns": samples, "samples_ts": [n / 7 for n in samples]}
    long["tests"] = [{**test, "samples_ns": samples} for test in real["tests"]]
    found = fitted(long, 20_000)
    assert 10_000 < len(json.dumps(found)) <= 20_000
    changed = {name for name in long if found[name] != long[name]}
    assert changed == {"samples_ns", "samples_ts", "tests"}
    assert found["samples_ns"] == samples[:: samples.index(found["samples_ns"][1])]
    assert len(found["tests"][0]["samples_ns"]) == len(found["samples_ns"])
    assert fitted(real, 10**6) == real
    with pytest.raises(EdgewardError, match="too large"):
        fitted(long, 500)
