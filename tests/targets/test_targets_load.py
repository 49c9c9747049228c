"""Profiles read from TOML: inheritance, the places, and everything hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minimal_profile import MINIMAL

from edgeward.errors import EdgewardError, ProfileError, UnsupportedError, UsageError
from edgeward.targets.load import CATALOG, MAX_FILE_BYTES, check_file, load, names
from edgeward.targets.write import to_toml

QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "config" / "edgeward" / "targets").mkdir(parents=True)
    monkeypatch.setenv("EDGEWARD_TARGETS_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def own(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "own" / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        load(path)
    return str(caught.value)


def test_our_catalogue_lists_devices_and_no_families() -> None:
    ours = {path.stem for path in CATALOG.glob("*.toml")}
    families = {
        "onnxruntime-cpu",
        "jetson-orin",
        "nvidia-server",
        "apple-mac",
        "iphone",
        "android",
    }
    assert set(names()) == ours - families
    assert {"x86-64-cpu", "kiosk-x86", "raspberry-pi-5"} <= set(names())
    assert {"jetson-orin-nano", "jetson-agx-orin"} <= set(names())


@pytest.mark.parametrize("name", sorted(path.stem for path in CATALOG.glob("*.toml")))
def test_each_of_our_files_is_valid(name: str) -> None:
    check_file(CATALOG / f"{name}.toml")


def test_the_orin_nano_is_what_its_data_sheet_says() -> None:
    profile = load("jetson-orin-nano")
    engine = profile.engines[0]
    assert profile.hardware.memory_bandwidth_bytes_per_s == 68 * 10**9
    assert profile.hardware.cores == 6
    assert profile.hardware.rate("int8") == 20 * 10**12
    assert profile.hardware.rate("int8", ("cpu",)) == 576 * 10**9
    assert profile.hardware.rate("int4") is None
    assert (engine.version, engine.python) == ("==1.23.2", "==3.10.*")
    assert engine.allows("1.23.2")
    assert not engine.allows("1.24.0")
    assert engine.allows_python("3.10.12")
    assert not engine.allows_python("3.12.3")
    assert engine.providers_for("fp32")[0] == "CUDAExecutionProvider"
    assert engine.providers_for("int8-dynamic") == ("CPUExecutionProvider",)
    assert profile.default.precision == "fp32"
    assert profile.limits.opset_max == 23
    assert profile.gate.max_memory_bytes == profile.hardware.usable_memory_bytes
    assert profile.gate.max_temperature_c == 85.0


def test_a_child_inherits_and_overrides() -> None:
    parent, child = load("x86-64-cpu"), load("kiosk-x86")
    assert child.extends == "x86-64-cpu"
    assert child.default.precision == "int8-dynamic"
    assert child.default.format == parent.default.format
    assert child.hardware.cores == parent.hardware.cores
    assert child.hardware.memory_bytes < parent.hardware.memory_bytes
    assert child.sources["hardware.cores"] == parent.sources["hardware.cores"]


def test_check_recipe_names_what_is_allowed() -> None:
    profile = load("jetson-orin-nano")
    profile.check_recipe("onnx", "int8-dynamic")
    with pytest.raises(UnsupportedError, match="fp32, fp16, bf16, int8-dynamic"):
        profile.check_recipe("onnx", "fp8")
    profile.check_recipe("gguf", "q4_k_m")
    with pytest.raises(UnsupportedError, match="formats are: onnx, gguf"):
        profile.check_recipe("coreml", "fp32")


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UsageError, match="jetson-orin-nano"):
        load("jetson-orin-nanoo")
    with pytest.raises(UsageError, match="x86-64-cpu"):
        load("zzz")


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 300, "A B", "\x1b[2J", "é"])
def test_a_hostile_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(name)
    assert "\x1b" not in str(caught.value)


def test_a_family_is_not_a_target() -> None:
    with pytest.raises(UsageError, match="jetson-agx-orin, jetson-orin-nano"):
        load("jetson-orin")


def test_users_profiles_are_found_in_both_places(tmp_path: Path) -> None:
    own(tmp_path, "by-path", MINIMAL)
    (tmp_path / "config/edgeward/targets/by-config.toml").write_text(MINIMAL)
    assert {"by-path", "by-config"} <= set(names())
    assert load("by-config").title == "A board"


def test_the_first_place_wins_and_may_extend_what_it_hides(tmp_path: Path) -> None:
    own(tmp_path, "raspberry-pi-5", 'extends = "raspberry-pi-5"\ntitle = "Ours"\n')
    profile = load("raspberry-pi-5")
    assert profile.title == "Ours"
    assert profile.hardware == load(CATALOG / "raspberry-pi-5.toml").hardware


def test_a_broken_file_keeps_its_name_in_the_list(tmp_path: Path) -> None:
    own(tmp_path, "broken", "= nonsense")
    assert "broken" in names()
    assert "raspberry-pi-5" in names()
    with pytest.raises(ProfileError, match="not TOML"):
        load("broken")


def test_cycles_are_found(tmp_path: Path) -> None:
    path = own(tmp_path, "a", 'title = "A"\nextends = "b"\n')
    own(tmp_path, "b", 'extends = "a"\n')
    message = refused(path)
    assert "b.toml:1: extends comes back to itself: a" in message
    assert "comes back to itself" in refused(own(tmp_path, "c", 'extends = "c"\n'))


def test_long_chains_and_unknown_parents_are_refused(tmp_path: Path) -> None:
    assert "not there: nobody" in refused(own(tmp_path, "x", 'extends = "nobody"\n'))
    for index in range(12):
        own(tmp_path, f"n{index}", f'extends = "n{index + 1}"\n')
    assert "levels up" in refused(tmp_path / "own" / "n0.toml")


MISTAKES = [
    ("cores = 4", "cores = 0", 5, "hardware.cores must be between"),
    ("cores = 4", 'cores = "4"', 5, "hardware.cores must be a whole number"),
    ("cores = 4", "cores = true", 5, "hardware.cores must be a whole number"),
    ("cores = 4", "coers = 4", 5, "hardware.coers is not a key of a profile; did you mean cores?"),
    ("cores = 4", "", 3, "hardware.cores is missing"),
    ('"4 GiB"', "4294967296", 6, "hardware.memory must be text with a unit"),
    ('"4 GiB"', '"4 gigs"', 6, "hardware.memory must be a number, a space and a unit"),
    ('"3 GiB"', '"5 GiB"', 7, "hardware.usable_memory is more than"),
    ('kind = "cpu"', 'kind = "tpu"', 11, "hardware.units.cpu.kind must be one of"),
    ("fp32 = ", "fp31 = ", 14, "hardware.units.cpu.rates.fp31 must be one of"),
    ('version = ">=1.23"', 'version = "1.23"', 18, "engines.0.version clause"),
    ('"fp32", "int8-dynamic"]', '"fp32", "fp32"]', 22, "formats.onnx names something twice"),
    ('precision = "fp32"', 'precision = "fp4"', 26, "default.precision is not one of"),
    ("[sources]", "[sauces]", 28, "sauces is not a key"),
    ('hardware = "the', '"hardware.disk" = "the', 29, "source of a key that is not there"),
    ('hardware = "the', '"hardware.cores" = "the', 6, "hardware.memory is a number without a"),
    ('title = "A board"', "title = 2026-01-01", 1, "title must be text, not a date"),
    ('title = "A board"', 'title = "\\u001b[2J"', 1, "title holds characters"),
    ('title = "A board"', 'title = ""', 1, "title must have 1 to 100"),
    ("[formats]\n", "[shapes]\nmode = 'static'\n[formats]\n", 21, "shapes.allowed must give sizes"),
    ("[formats]\n", "[gate]\nmax_latency_ms = nan\n[formats]\n", 22, "gate.max_latency_ms must be"),
    ("[formats]\n", "[gate]\nmax_latency_ms = inf\n[formats]\n", 22, "gate.max_latency_ms must be"),
    ("[formats]\n", "[gate]\nmax_memory = '9 GiB'\n[formats]\n", 22, "gate.max_memory is more"),
    ("providers =", "only = {fp8 = ['x']}\nproviders =", 19, "a precision that no format allows"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), MISTAKES)
def test_a_mistake_is_named_with_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    assert MINIMAL.count(old) == 1
    path = own(tmp_path, "mistaken", MINIMAL.replace(old, new))
    message = refused(path)
    assert message.startswith(f"{path}:{line}: ")
    assert words in message


def test_a_mistake_in_the_parent_names_the_parent(tmp_path: Path) -> None:
    parent = own(tmp_path, "parent", MINIMAL.replace('"3 GiB"', '"5 GiB"'))
    child = own(tmp_path, "child", 'extends = "parent"\ntitle = "Child"\n')
    assert refused(child).startswith(f"{parent}:7: hardware.usable_memory")


def test_a_changed_number_wants_its_own_source(tmp_path: Path) -> None:
    text = 'extends = "raspberry-pi-5"\n\n[hardware]\nmemory = "16 GiB"\n'
    path = own(tmp_path, "pi-16", text)
    assert refused(path).startswith(f"{path}:4: hardware.memory is changed here and needs its own")
    path.write_text(text + '\n[sources]\n"hardware.memory" = "product brief"\n')
    assert load(path).hardware.memory_bytes == 16 * 2**30


HOSTILE = {
    "binary": bytes(range(256)) * 4,
    "latin": 'title = "é"'.encode("latin-1"),
    "utf16": MINIMAL.encode("utf-16"),
    "deep-array": b"title = " + b"[" * 5000 + b"]" * 5000,
    "deep-table": b"[" + b".".join([b"a"] * 5000) + b"]\nx = 1",
    "deep-key": b".".join([b"hardware"] * 3000) + b" = 1",
    "huge-number": b"[hardware]\ncores = " + b"9" * 10_000,
    "huge": b"#" * (MAX_FILE_BYTES + 1),
    "twice": b"title = 'a'\ntitle = 'b'",
    "nul": b"title = 'a\0'",
    "many": b"[formats]\n" + b"".join(b"f%d = ['a']\n" % index for index in range(100)),
    "key": b'"\\u001b[31m" = 1',
    "empty": b"",
}


def test_a_valid_profile_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = own(tmp_path, "large", MINIMAL + "#" * (MAX_FILE_BYTES - len(MINIMAL)))
    assert load(path).title == "A board"
    path.write_text(MINIMAL + "#" * (MAX_FILE_BYTES - len(MINIMAL) + 1))
    assert "larger than 256 KiB" in refused(path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_a_profile_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_bytes(HOSTILE[kind])
    message = refused(path)
    assert "hostile.toml" in message
    assert "\x1b" not in message
    assert len(message) < 2000


def test_what_is_no_file_is_a_profile_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for name in ("fifo", "folder", "loop", "absent", "Not A Name"):
        assert f"{name}.toml" in refused(tmp_path / f"{name}.toml")


@QUIET
@given(st.binary(max_size=300))
def test_any_bytes_give_a_profile_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bytes.toml"
    path.write_bytes(data)
    refused(path)


LINES = MINIMAL.splitlines()
VALUES = st.sampled_from(
    ["nan", "-inf", "[]", "{}", "''", "1", "-1", "1e400", "true", "1979-05-27", "[[[]]]", "'8 GiB'"]
)


@QUIET
@given(st.integers(0, len(LINES) - 1), VALUES, st.booleans())
def test_a_mutated_profile_loads_or_says_why(
    tmp_path: Path, index: int, value: str, drop: bool
) -> None:
    lines = list(LINES)
    key, equals, _ = lines[index].partition(" = ")
    lines[index] = f"{key} = {value}" if equals and not drop else ""
    path = tmp_path / "mutated.toml"
    path.write_text("\n".join(lines))
    try:
        profile = load(path)
    except EdgewardError as error:
        assert isinstance(error, ProfileError)
    else:
        assert profile.hardware.usable_memory_bytes <= profile.hardware.memory_bytes


@pytest.mark.parametrize("name", ["jetson-orin-nano", "jetson-agx-orin", "kiosk-x86"])
def test_a_resolved_profile_is_written_so_that_it_loads_the_same(tmp_path: Path, name: str) -> None:
    profile = load(name)
    path = tmp_path / f"{name}.toml"
    path.write_text(to_toml(profile))
    again = load(path)
    assert again.digest == profile.digest
    assert again.extends is None


def test_the_digest_follows_content_and_nothing_else(tmp_path: Path) -> None:
    path = own(tmp_path, "board", MINIMAL)
    before = load(path).digest
    path.write_text("# a comment\n" + MINIMAL.replace('"4 GiB"', '"4096 MiB"'))
    assert load(path).digest == before
    path.write_text(MINIMAL.replace('"12 GB/s"', '"13 GB/s"'))
    assert load(path).digest != before
    assert len(before) == 64


def test_enumerated_shapes_are_read(tmp_path: Path) -> None:
    shapes = '[shapes]\nmode = "enumerated"\n[shapes.allowed]\nsequence = [64, 128]\n[formats]\n'
    path = own(tmp_path, "shaped", MINIMAL.replace("[formats]\n", shapes))
    assert load(path).shapes.allowed == {"sequence": (64, 128)}


def test_an_installed_package_adds_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "acme_targets").mkdir(parents=True)
    (site / "acme_targets" / "__init__.py").write_text("")
    (site / "acme_targets" / "acme-box.toml").write_text(MINIMAL)
    info = site / "acme_targets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-targets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgeward.targets]\nacme = acme_targets\n")
    monkeypatch.syspath_prepend(str(site))
    assert "acme-box" in names()
    assert load("acme-box").hardware.cores == 4


def test_a_user_without_a_home_has_our_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "XDG_CONFIG_HOME", "EDGEWARD_TARGETS_PATH"):
        monkeypatch.delenv(variable)
    assert "kiosk-x86" in names()


def test_keys_inside_long_text_are_not_taken_for_keys(tmp_path: Path) -> None:
    text = 'description = """\n[hardware]\ncores = 1\n"""\n' + MINIMAL
    path = own(tmp_path, "wordy", text.replace("cores = 4", "cores = 0"))
    assert refused(path).startswith(f"{path}:9: hardware.cores")
