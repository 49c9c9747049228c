"""Toolchains made from tiny local wheels, named by another wheel's entry points, offline."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from compiler_kit import Recorder, is_running, runner, spec, wait_until

from edgeward.compiler.toolchains import Toolchains
from edgeward.errors import ToolchainError

HERE = Path(__file__).parent
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(folder: Path, name: str, version: str, requires: str = "", size: int = 0) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": WHEEL,
    }
    for number in range(size):
        files[f"{name}_data/part{number}.txt"] = "x" * 200
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


class Plant:
    """A wheel house, and a package beside that brings toolchains by entry points."""

    def __init__(self, root: Path):
        self.root = root
        self.wheels = root / "wheels"
        self.package = root / "package"
        self.locks = {}
        self.package.mkdir(parents=True)
        self.wheels.mkdir()

    def lock(self, name: str, text: str) -> None:
        (self.package / f"{name}.lock").write_text(text)
        self.locks[name] = f"{name.upper()}_LOCK"
        lines = "from pathlib import Path\nHERE = Path(__file__).parent\n"
        lines += "".join(f'{v} = HERE / "{n}.lock"\n' for n, v in self.locks.items())
        (self.package / "tinyplugin.py").write_text(lines)
        info = self.package / "tinyplugin-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyplugin\nVersion: 1.0\n")
        points = "".join(f"{n} = tinyplugin:{v}\n" for n, v in self.locks.items())
        (info / "entry_points.txt").write_text(f"[edgeward.toolchains]\n{points}")

    def environment(self) -> dict[str, str]:
        return {"PIP_FIND_LINKS": str(self.wheels), "PIP_NO_INDEX": "1"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    plant = Plant(tmp_path_factory.mktemp("plant"))
    make_wheel(plant.wheels, "tinybase", "1.0")
    make_wheel(plant.wheels, "tiny", "2.0", requires="tinybase")
    make_wheel(plant.wheels, "slowly", "1.0", size=8_000)
    plant.lock("low", "# description: the lower layer\ntinybase==1.0\n")
    plant.lock("high", "# description: the upper layer\n# base: low\ntiny==2.0\n")
    plant.lock("slow", "slowly==1.0\n")
    plant.lock("absent", "# base: low\nnosuchpackage==9.9\n")
    plant.lock("lacking", "tiny==2.0\n")
    plant.lock("huge", "# disk: 900000 GiB\ntinybase==1.0\n")
    plant.lock("old", "# python: 2.7 3.1\ntinybase==1.0\n")
    plant.lock("loose", "tinybase>=1.0\n")
    return plant


@pytest.fixture(autouse=True)
def offline(plant, monkeypatch):
    # Tests of this file may come to a worker in several parts, each with a plant of its own.
    monkeypatch.delitem(sys.modules, "tinyplugin", raising=False)
    monkeypatch.syspath_prepend(str(plant.package))
    for name, value in plant.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests that leave its toolchains ready."""
    return tmp_path_factory.mktemp("cache")


def test_a_layered_toolchain_is_made_once_and_runs_stages(cache):
    reporter = Recorder()
    with runner(cache, reporter) as run:
        first = run.run(spec("use_tiny", toolchain="high"))
    assert first.data["tiny"] == "2.0"
    assert "high-" in first.data["file"]
    assert first.versions["tinybase"] == "1.0"
    assert first.versions["tiny"] == "2.0"
    made = [
        text.rpartition("-")[0] for name, text, cached in reporter.finished if name == "toolchain"
    ]
    assert made == ["low", "high"]
    assert any("installing" in text or "looking" in text for _, _, text, _ in reporter.progress)
    again = Recorder()
    toolchain = Toolchains(cache).ensure("high", again)
    assert [cached for *_, cached in again.finished] == [True]
    assert toolchain.python.exists()
    assert not list(toolchain.site_packages.glob("tinybase*")), "the base is not copied"


def test_a_worker_sees_the_toolchain_and_nothing_of_the_parent(cache):
    with runner(cache) as run:
        seen = run.run(spec("environment", toolchain="high")).data
    assert seen["prefix"] != sys.prefix
    own = [place for place in sys.path if "site-packages" in place]
    assert own
    assert not set(own) & set(seen["path"])


def test_states(cache):
    toolchains = Toolchains(cache)
    assert {"torch", "onnx", "low", "high"} <= set(toolchains.names())
    toolchains.ensure("high", Recorder())
    ready = toolchains.state("high")
    assert (ready.state, ready.fix) == ("ready", "")
    assert ready.size_bytes > 1000
    assert ready.description == "the upper layer"
    missing = toolchains.state("slow")
    assert (missing.state, missing.size_bytes) == ("missing", 0)
    assert missing.fix == "edgeward doctor --fix slow"


def break_python(low, high):
    (high.folder / "bin" / "python").unlink()


def break_marker(low, high):
    (high.folder / "edgeward-toolchain.json").unlink()


def break_marker_text(low, high):
    (high.folder / "edgeward-toolchain.json").write_text("null")


def break_marker_digest(low, high):
    path = high.folder / "edgeward-toolchain.json"
    marker = json.loads(path.read_text())
    marker["digest"] = "0" * 64
    path.write_text(json.dumps(marker))


def break_package(low, high):
    shutil.rmtree(next(high.folder.rglob("tiny-2.0.dist-info")))


def break_link(low, high):
    next(high.folder.rglob("edgeward-base.pth")).unlink()


def break_link_target(low, high):
    next(high.folder.rglob("edgeward-base.pth")).write_text("/nowhere/site-packages\n")


def break_base(low, high):
    shutil.rmtree(low.folder)


@pytest.mark.parametrize(
    "damage",
    [
        break_python,
        break_marker,
        break_marker_text,
        break_marker_digest,
        break_package,
        break_link,
        break_link_target,
        pytest.param(break_base, marks=pytest.mark.slow),
    ],
)
def test_a_broken_one_says_so_and_is_made_again(cache, damage):
    toolchains = Toolchains(cache)
    toolchains.ensure("high", Recorder())
    damage(toolchains.state("low"), toolchains.state("high"))
    broken = Toolchains(cache).state("high")
    assert broken.state == "broken"
    assert broken.reason
    assert broken.fix == "edgeward doctor --fix high"
    with runner(cache) as run:
        assert (
            run.run(spec("use_tiny", toolchain="high", why=damage.__name__)).data["tiny"] == "2.0"
        )
    assert Toolchains(cache).state("high").state == "ready"


def test_a_cache_that_was_moved_or_reached_over_a_link_keeps_its_layers(plant, tmp_path):
    (tmp_path / "first").mkdir()
    link = tmp_path / "link"
    link.symlink_to("first")
    Toolchains(link).ensure("high", Recorder())
    link.unlink()
    (tmp_path / "first").rename(tmp_path / "second")
    reporter = Recorder()
    moved = Toolchains(tmp_path / "second").ensure("high", reporter)
    assert [cached for *_, cached in reporter.finished] == [True]
    subprocess.run([moved.python, "-c", "import tiny, tinybase"], check=True)


def test_one_whose_python_starts_but_cannot_work_is_made_again(cache):
    toolchains = Toolchains(cache)
    ready = toolchains.ensure("high", Recorder())
    (ready.site_packages / "dataclasses.pth").write_text("import sys; sys.exit('spoilt')\n")
    reporter = Recorder()
    Toolchains(cache).ensure("high", reporter)
    assert any("spoilt" in note for note in reporter.notes)
    assert Toolchains(cache).state("high").state == "ready"


def test_a_package_that_does_not_exist_is_told_in_words(cache):
    with pytest.raises(ToolchainError) as caught:
        Toolchains(cache).ensure("absent", Recorder())
    error = caught.value
    assert "no nosuchpackage==9.9 for Python" in error.what, str(error)
    assert error.why.startswith("pip: ")
    assert "edgeward doctor --fix absent" in error.next
    assert error.exit_code == 5
    assert Toolchains(cache).state("absent").state == "missing"


@pytest.mark.slow
def test_a_lock_that_lacks_a_package_is_refused(cache):
    with pytest.raises(ToolchainError, match="contradicts itself") as caught:
        Toolchains(cache).ensure("lacking", Recorder())
    assert "tinybase" in caught.value.why
    assert Toolchains(cache).state("lacking").state == "missing"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("huge", "of disk"),
        ("old", "has no lock for Python"),
        ("loose", "not an exact pin"),
        ("unheard-of", "no toolchain named"),
    ],
)
def test_what_cannot_be_made_says_why_before_it_begins(cache, name, words):
    with pytest.raises(ToolchainError, match=words):
        Toolchains(cache).ensure(name, Recorder())


def test_an_unknown_build_of_torch_is_refused(cache, monkeypatch):
    with pytest.raises(ToolchainError, match="cu999"):
        Toolchains(cache, torch_build="cu999")
    monkeypatch.setenv("EDGEWARD_TORCH", "rocm")
    with pytest.raises(ToolchainError, match="rocm"):
        Toolchains(cache)


def test_the_build_of_torch_is_part_of_the_digest_where_there_is_torch(cache):
    cpu, cuda = Toolchains(cache), Toolchains(cache, torch_build="cu128")
    assert cpu.digest("torch") != cuda.digest("torch")
    assert cpu.digest("onnx") != cuda.digest("onnx")
    assert cpu.digest("onnxruntime-1.23") == cuda.digest("onnxruntime-1.23")
    assert cpu.digest("high") == cuda.digest("high")


def test_another_pin_is_another_toolchain(cache, plant):
    before = Toolchains(cache).digest("high")
    text = (plant.package / "low.lock").read_text()
    try:
        plant.lock("low", "# another description\n" + text)
        assert Toolchains(cache).digest("high") == before
        plant.lock("low", text.replace("1.0", "1.1"))
        assert Toolchains(cache).digest("high") != before
    finally:
        plant.lock("low", text)


SCRIPT = """
import sys
sys.path[:0] = [{here!r}, {package!r}]
from pathlib import Path
from edgeward.compiler.progress import PlainReporter
from edgeward.compiler.toolchains import Toolchains
class Told(PlainReporter):
    def stage_progress(self, name, fraction, text, memory_bytes=0):
        self._line(text)
Toolchains(Path({cache!r})).ensure({name!r}, Told(sys.stderr))
"""


def start(plant, cache, name):
    text = SCRIPT.format(here=str(HERE), package=str(plant.package), cache=str(cache), name=name)
    return subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.PIPE, text=True)


def children_of(folder: Path) -> list[int]:
    """Return the processes that work in a toolchain."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if str(folder) in line and "guard.py" not in line and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


def installing(cache: Path) -> list[int]:
    """Return the pips that have begun to write packages."""
    begun = list(cache.glob("toolchains/slow-*/lib/*/site-packages/slowly_data/part1.txt"))
    return children_of(cache / "toolchains") if begun else []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_an_interrupted_making_leaves_nothing_believed_in_and_heals(tmp_path, plant, name):
    process = start(plant, tmp_path, "slow")
    pids = wait_until(lambda: installing(tmp_path), "pip writes")
    assert Toolchains(tmp_path).state("slow").state == "building"
    process.send_signal(getattr(signal, name))
    process.communicate()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "pip is gone too")
    assert Toolchains(tmp_path).state("slow").state in ("missing", "broken")
    if name == "SIGKILL":
        toolchain = Toolchains(tmp_path).ensure("slow", Recorder())
        assert len(list((toolchain.site_packages / "slowly_data").iterdir())) == 8_000


@pytest.mark.slow
def test_two_processes_make_one_toolchain_once(tmp_path, plant):
    both = [start(plant, tmp_path, "low") for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("virtual environment" in text for text in said) == 1
    assert sum("another process is at it, waiting" in text for text in said) >= 1
    assert sum("(cached)" in text for text in said) == 1


def test_a_toolchain_in_use_is_not_removed_under_a_worker(cache, plant):
    with runner(cache) as run:
        folder = Path(run.run(spec("environment", toolchain="low", n=2)).data["prefix"])
        script = SCRIPT.replace(".ensure({name!r}, Told(sys.stderr))", ".remove({name!r})")
        text = script.format(
            here=str(HERE), package=str(plant.package), cache=str(cache), name="low"
        )
        with subprocess.Popen([sys.executable, "-c", text]) as remover:
            with pytest.raises(subprocess.TimeoutExpired):
                remover.wait(1.0)
            assert folder.exists()
            run.close()
            assert remover.wait() == 0
    assert not folder.exists()
    assert Toolchains(cache).state("low").state == "missing"


@pytest.mark.slow
def test_removing_frees_every_build_and_an_unknown_name_is_refused(tmp_path):
    toolchains = Toolchains(tmp_path)
    toolchains.ensure("low", Recorder())
    assert toolchains.remove("low") > 1000
    assert toolchains.state("low").state == "missing"
    assert toolchains.remove("low") == 0
    with pytest.raises(ToolchainError):
        toolchains.remove("unheard-of")


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "toolchains").write_text("a file")
    with pytest.raises(ToolchainError) as caught:
        Toolchains(tmp_path).ensure("low", Recorder())
    assert "EDGEWARD_CACHE" in caught.value.next


@pytest.mark.slow
def test_settings_of_pip_that_lead_elsewhere_are_not_followed(tmp_path, monkeypatch):
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "astray"))
    toolchain = Toolchains(tmp_path / "cache").ensure("low", Recorder())
    assert list(toolchain.site_packages.glob("tinybase*"))
    assert not (tmp_path / "elsewhere").exists()
    assert os.environ["PIP_USER"] == "1"
