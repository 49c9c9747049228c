"""Fingerprints: captured trees of a Jetson and a Pi, and hostile JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeward.errors import ProtocolError, UnsupportedError
from edgeward.targets.derive import measure_bandwidth, profile_from
from edgeward.targets.fingerprint import Fingerprint
from edgeward.targets.load import load, names
from edgeward.targets.match import best, compatible, match, ranked
from edgeward.targets.probe import probe, run_program

GIB = 2**30
QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ARM_CORE = (
    "processor\t: {index}\nBogoMIPS\t: 62.50\n"
    "Features\t: fp asimd evtstrm aes atomics fphp asimdhp asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\n\n"
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    return write(
        tmp_path / "jetson",
        {
            "proc/cpuinfo": "".join(ARM_CORE.format(index=i, part="0xd42") for i in range(6)),
            "proc/meminfo": "MemTotal:        7802336 kB\nMemFree:  1 kB\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
            "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: gen\n",
        },
    )


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    return write(
        tmp_path / "pi",
        {
            "proc/cpuinfo": "".join(ARM_CORE.format(index=i, part="0xd0b") for i in range(4))
            + "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
            "proc/meminfo": "MemTotal:        8256720 kB\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
            "proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-2712\n",
            "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        },
    )


def found(fingerprint: Fingerprint) -> str | None:
    profile = best([load(name) for name in names()], fingerprint)
    return profile.name if profile else None


def with_engine(fingerprint: Fingerprint, version: str, python: str = "3.10.12") -> Fingerprint:
    document = json.loads(fingerprint.to_json())
    document |= {"engines": {"onnxruntime": version}, "python_version": python}
    return Fingerprint.from_dict(document)


def changed(fingerprint: Fingerprint, **changes: object) -> Fingerprint:
    return Fingerprint.from_dict({**json.loads(fingerprint.to_json()), **changes})


def test_a_jetson_is_recognised(jetson: Path) -> None:
    here = probe(jetson)
    assert here.arch == "aarch64"
    assert here.cpu_model == "Cortex-A78AE"
    assert here.cores == 6
    assert here.memory_bytes == 7802336 * 1024
    assert here.device_tree_model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert here.device_tree_compatible == ("nvidia,p3768-0000+p3767-0005", "nvidia,tegra234")
    assert here.l4t_release == "36.4.3"
    assert (here.gpu_name, here.compute_capability) == ("Orin (Ampere)", "8.7")
    assert here.os == "Ubuntu 22.04.5 LTS"
    assert here.kernel == "5.15.148-tegra"
    assert here.cpu_flags == ("asimd", "asimdhp", "fphp", "asimddp", "atomics")
    assert found(here) == "jetson-orin-nano"


def test_a_pi_is_recognised(pi: Path) -> None:
    here = probe(pi)
    assert (here.cpu_model, here.cores) == ("Cortex-A76", 4)
    assert here.l4t_release is None
    assert here.gpu_name is None
    assert found(here) == "raspberry-pi-5"


def test_nvidia_smi_is_believed_except_where_it_says_nothing(jetson: Path) -> None:
    asked: list[Sequence[str]] = []

    def smi(answer: str) -> Fingerprint:
        def run(command: Sequence[str]) -> str:
            asked.append(command)
            return answer

        return probe(jetson, run)

    here = smi("NVIDIA H100 80GB HBM3, 9.0, 550.54.15, 81559\nsecond, 1.0, 1, 1\n")
    assert (here.gpu_name, here.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert here.driver_version == "550.54.15"
    silent = smi("Orin (nvgpu), [N/A], 540.4.0, [N/A]")
    assert (silent.compute_capability, silent.driver_version) == ("8.7", "540.4.0")
    assert smi("\x1b[31mgarbage\n,,,,").compute_capability == "8.7"
    assert asked[0][0] == "nvidia-smi"


def test_a_control_group_bounds_the_memory(pi: Path) -> None:
    write(pi, {"sys/fs/cgroup/memory.max": f"{GIB}\n"})
    assert probe(pi).memory_bytes == GIB
    write(pi, {"sys/fs/cgroup/memory.max": "max\n"})
    assert probe(pi).memory_bytes == 8256720 * 1024


def test_an_empty_tree_gives_a_fingerprint(tmp_path: Path) -> None:
    here = probe(tmp_path)
    assert here.cpu_model == "unknown"
    assert Fingerprint.from_json(here.to_json()) == here


@QUIET
@given(st.dictionaries(st.sampled_from(["cpuinfo", "meminfo", "stat"]), st.binary(max_size=200)))
def test_hostile_files_still_give_a_valid_fingerprint(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    (tmp_path / "proc").mkdir(exist_ok=True)
    for name in ("cpuinfo", "meminfo", "stat"):
        (tmp_path / "proc" / name).write_bytes(files.get(name, b""))
    here = probe(tmp_path)
    assert Fingerprint.from_json(here.to_json()) == here


def test_this_machine_is_probed() -> None:
    here = probe()
    assert here.memory_bytes > 2**20
    assert here.cores >= 1
    assert "onnxruntime" in here.engines
    assert Fingerprint.from_json(here.to_json()) == here


def test_a_program_that_hangs_fails_or_is_absent_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr("edgeward.targets.probe.RUN_TIMEOUT_S", 0.2)
        assert run_program((sys.executable, "-c", "import time; time.sleep(60)")) is None
    assert run_program((sys.executable, "-c", "raise SystemExit(3)")) is None
    assert run_program(("no-such-program-anywhere",)) is None
    assert run_program((sys.executable, "-c", "print(1)")) == "1\n"


def test_the_digest_follows_the_content(jetson: Path) -> None:
    here = probe(jetson)
    assert here.digest == probe(jetson).digest
    assert here.digest != changed(here, l4t_release="36.4.4").digest


GOOD = {
    "arch": "aarch64",
    "os": "Linux",
    "kernel": "6.6",
    "cpu_model": "Cortex-A76",
    "cores": 4,
    "memory_bytes": 8 * GIB,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch", None),
        ("arch", ""),
        ("arch", 5),
        ("os", "x" * 201),
        ("os", "\x1b[2J"),
        ("kernel", "\ud800"),
        ("cores", 0),
        ("cores", True),
        ("cores", 4.0),
        ("cores", 10**9),
        ("memory_bytes", -1),
        ("memory_bytes", 10**30),
        ("cpu_flags", "avx2"),
        ("cpu_flags", ["x"] * 65),
        ("cpu_flags", [1]),
        ("engines", ["onnxruntime"]),
        ("engines", {"onnxruntime": 1}),
        ("engines", {str(index): "1" for index in range(65)}),
        ("l4t_release", 36.4),
    ],
)
def test_a_hostile_field_is_refused(key: str, value: object) -> None:
    assert Fingerprint.from_dict(GOOD).cores == 4
    with pytest.raises(ProtocolError, match=key):
        Fingerprint.from_json(json.dumps({**GOOD, key: value}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        b"\xff\xfe",
        "[" * 60_000,
        '{"a":' * 10_000,
        json.dumps(GOOD)[:-1] + ', "cores": NaN}',
        '{"cores": ' + "9" * 20_000 + "}",
        " " * 100_000,
    ],
)
def test_hostile_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        Fingerprint.from_json(text)


def test_keys_of_a_newer_agent_are_passed_over() -> None:
    newer = json.dumps({**GOOD, "npu_name": "x", "deep": [[[]]]})
    assert Fingerprint.from_json(newer) == Fingerprint.from_dict(GOOD)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@QUIET
@given(st.dictionaries(st.sampled_from([*GOOD, "engines", "cpu_flags", "gpu_name"]), JSON))
def test_any_json_is_read_or_refused(changes: dict[str, object]) -> None:
    try:
        here = Fingerprint.from_json(json.dumps({**GOOD, **changes}))
    except ProtocolError:
        return
    assert Fingerprint.from_json(here.to_json()) == here


def test_match_says_why_not(jetson: Path, pi: Path) -> None:
    nano = load("jetson-orin-nano")
    reasons = match(nano, probe(pi)).reasons
    assert any("the board is Raspberry Pi 5" in reason for reason in reasons)
    assert any("L4T is absent, needs >=36.4,<36.5" in reason for reason in reasons)
    x86 = match(load("x86-64-cpu"), probe(jetson))
    assert x86.reasons == ("arch is aarch64, needs x86_64",)
    assert (x86.ok, x86.score) == (False, 0)


def test_match_bounds_the_memory_and_the_release(jetson: Path) -> None:
    nano, here = load("jetson-orin-nano"), probe(jetson)
    assert match(nano, here).ok
    assert "at least 6.0 GiB" in match(nano, changed(here, memory_bytes=4 * GIB)).reasons[0]
    assert "at most 8.0 GiB" in match(nano, changed(here, memory_bytes=16 * GIB)).reasons[0]
    for release in ("35.6.0", "36.3", "36.5", "38.2", "nonsense"):
        assert not match(nano, changed(here, l4t_release=release)).ok
    assert not match(nano, changed(here, compute_capability="7.2")).ok


def test_tensorrt_is_known_by_its_library(jetson: Path) -> None:
    folder = jetson / "usr/lib/aarch64-linux-gnu"
    assert "tensorrt" not in probe(jetson).engines
    write(
        folder,
        {"libnvinfer.so.10": "", "libnvinfer.so.10.3.0": "", "libnvinfer_plugin.so.9.9.9": ""},
    )
    assert probe(jetson).engines["tensorrt"] == "10.3.0"


def test_compatible_says_why_not_in_words(jetson: Path) -> None:
    nano = load("jetson-orin-nano")
    here = with_engine(probe(jetson), "1.23.2")
    assert compatible(nano, here).ok
    assert compatible(nano, with_engine(here, "1.24.0")).reasons == (
        "onnxruntime is 1.24.0, needs ==1.23.2",
        "tensorrt is not installed, needs >=10.3,<10.4",
        "llama is not installed, needs >=0.3.36",
    )
    assert compatible(nano, changed(here, engines={})).reasons == (
        "onnxruntime is not installed, needs ==1.23.2",
        "tensorrt is not installed, needs >=10.3,<10.4",
        "llama is not installed, needs >=0.3.36",
    )
    assert compatible(nano, with_engine(here, "1.23.2", "3.12.3")).reasons == (
        "Python is 3.12.3, onnxruntime needs ==3.10.*",
        "tensorrt is not installed, needs >=10.3,<10.4",
        "llama is not installed, needs >=0.3.36",
    )
    assert compatible(nano, changed(here, engines={"tensorrt": "10.3.0"})).ok
    small = changed(here, memory_bytes=GIB * 9 // 10)
    assert compatible(nano, small, needs_memory_bytes=GIB * 11 // 10).reasons == (
        "needs 1.1 GiB, has 0.9 GiB",
    )
    assert compatible(nano, small, needs_memory_bytes=GIB // 2).ok
    assert compatible(nano, small).reasons == ("needs 5.6 GiB, has 0.9 GiB",)
    arch = compatible(nano, changed(here, arch="x86_64")).reasons
    assert arch == ("arch is x86_64, needs aarch64",)


def test_compatible_does_not_ask_for_the_board(jetson: Path) -> None:
    other = changed(with_engine(probe(jetson), "1.23.2"), device_tree_model="A carrier of our own")
    other = changed(other, device_tree_compatible=["acme,carrier"])
    assert not match(load("jetson-orin-nano"), other).ok
    assert compatible(load("jetson-orin-nano"), other).ok


def test_the_more_particular_profile_is_taken() -> None:
    x86 = changed(Fingerprint.from_dict(GOOD), arch="x86_64", cpu_flags=["avx2", "fma"])
    profiles = [load("x86-64-cpu"), load("kiosk-x86"), load("raspberry-pi-5")]
    assert [profile.name for profile, _ in ranked(profiles, x86)] == ["kiosk-x86", "x86-64-cpu"]
    assert best(profiles, changed(x86, cpu_flags=[])) == load("x86-64-cpu")
    assert best(profiles, changed(x86, arch="riscv64")) is None


@pytest.mark.parametrize("tree", ["jetson", "pi"])
def test_a_probed_profile_loads_and_matches_its_machine(
    tmp_path: Path, tree: str, request: pytest.FixtureRequest
) -> None:
    here = probe(request.getfixturevalue(tree))
    path = tmp_path / "mine.toml"
    path.write_text(profile_from(here, bandwidth_bytes_per_s=17_123_456_789))
    profile = load(path)
    assert match(profile, here).ok
    assert best([load(tmp_path / "mine.toml"), *map(load, names())], here) == profile
    assert profile.hardware.memory_bandwidth_bytes_per_s == 17_100_000_000
    assert profile.sources["hardware.memory"] == "probed on this machine"
    assert "measured" in profile.sources["hardware.memory_bandwidth"]


FINGERPRINTS = st.builds(
    Fingerprint,
    arch=st.sampled_from(["x86_64", "aarch64", "riscv64"]),
    os=st.just("Linux"),
    kernel=st.just("6"),
    cpu_model=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200),
    cores=st.integers(1, 65_536),
    memory_bytes=st.integers(1, 2**53),
    cpu_flags=st.lists(st.text(max_size=9), max_size=4).map(tuple),
    device_tree_model=st.none()
    | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200),
    engines=st.dictionaries(
        st.just("onnxruntime"), st.sampled_from(["1.23.2", "1.18.0+cu1", "x", ""])
    ),
)


@QUIET
@example(Fingerprint("x86_64", "Linux", "6", "any", 1, 1, cpu_flags=("avx2", "avx2")), None)
@given(FINGERPRINTS, st.none() | st.integers(1, 2**62))
def test_any_fingerprint_makes_a_profile_that_loads(
    tmp_path: Path, here: Fingerprint, bandwidth: int | None
) -> None:
    path = tmp_path / "any.toml"
    path.write_text(profile_from(here, bandwidth_bytes_per_s=bandwidth), encoding="utf-8")
    profile = load(path)
    assert profile.hardware.memory_bytes <= here.memory_bytes
    assert profile.hardware.memory_bytes > here.memory_bytes - 2**20


def test_an_architecture_without_profiles_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="s390x"):
        profile_from(changed(Fingerprint.from_dict(GOOD), arch="s390x"))


def test_bandwidth_is_measured() -> None:
    assert measure_bandwidth(repetitions=1) > 10**6
