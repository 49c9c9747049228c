import json

import pytest
from typed import typed

from edgeward.compiler import doctor
from edgeward.compiler.cache_dir import cache_root
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains import Toolchains
from edgeward.errors import MissingError, UsageError


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEWARD_CACHE", str(tmp_path))


def edgeward(*arguments):
    return typed("doctor", *arguments)


def test_it_names_everything_with_the_command_that_makes_it():
    done = edgeward("-o", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["onnx"]["state"] == "missing"
    assert rows["onnx"]["next"] == "edgeward doctor --fix onnx"
    assert rows["extra-onnx"]["state"] == "ready"
    assert rows["disk"]["size_bytes"] > 0
    assert rows["stages"]["size_bytes"] == 0


def test_a_name_that_is_missing_is_exit_code_5():
    done = edgeward("onnx")
    assert done.returncode == 5
    assert "onnx is missing" in done.stderr
    assert "Next: edgeward doctor --fix onnx" in done.stderr
    assert edgeward("extra-onnx").returncode == 0


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--fix", "nonsense"], ["--prune", "much"], ["--prune=-1GB"]]
)
def test_nonsense_is_exit_code_2_without_a_traceback(arguments):
    done = edgeward(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_engine_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "flux", ("numpy", "no-such-package"))
    findings = doctor.select(doctor.examine(Toolchains()), ["extra-flux"])
    with pytest.raises(MissingError) as caught:
        doctor.require(findings)
    assert caught.value.why == "no-such-package not installed"
    assert caught.value.next == "pip install 'edgeward[flux]'"


def test_pruning_through_the_command(tmp_path):
    entry = tmp_path / "stages" / ("a" * 64) / "out"
    entry.mkdir(parents=True)
    (entry / "file").write_bytes(b"x" * 5000)
    assert "5000" in edgeward("stages", "-o", "csv").stdout
    assert "freed" in edgeward("--prune", "0").stderr
    assert not entry.exists()


def test_fixing_nothing_broken_makes_nothing(tmp_path):
    doctor.fix(Toolchains(), [], NullReporter())
    assert not (tmp_path / "toolchains").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500MB", 500_000_000),
        ("10 GB", 10**10),
        ("10GiB", 10 << 30),
        ("1.5k", 1500),
        ("7b", 7),
        ("1 TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert doctor.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "nan", "inf", "1e400", "10 XB", "ten", "1 2 GB"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError):
        doctor.parse_size(text)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert cache_root() == tmp_path
    monkeypatch.delenv("EDGEWARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "edgeward"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "edgeward"
