"""What planner and clouds need of a profile: prices, shares of the peak, names with dots."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from minimal_profile import MINIMAL

from edgeward.errors import ProfileError
from edgeward.targets.load import load, names
from edgeward.targets.present import diff_rows
from edgeward.targets.schema import TARGET
from edgeward.targets.write import to_toml


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


def test_a_cloud_machine_keeps_its_name_and_has_a_dated_price() -> None:
    profile = load("inf2.xlarge")
    assert profile.price is not None
    assert (profile.price.region, profile.price.as_of) == ("us-east-1", "2026-01")
    assert profile.hardware.room_bytes == profile.hardware.core_memory_bytes == 16 * 10**9
    assert profile.hardware.room_bytes < profile.hardware.usable_memory_bytes


def test_every_machine_that_is_rented_has_a_dated_price_with_its_source() -> None:
    rented = {"vllm", "neuron"}
    profiles = [
        each for each in map(load, names()) if rented & {engine.name for engine in each.engines}
    ]
    assert {"t4", "l4", "a10g", "a100", "h100", "h200", "b200", "trn2.48xlarge"} <= {
        each.name for each in profiles
    }
    for profile in profiles:
        assert profile.price and profile.price.as_of >= "2026-01", profile.name
        assert profile.sources["price"], profile.name


def test_of_eight_gpus_a_price_is_that_of_one() -> None:
    eighth = re.compile(r"one of eight GPUs of \S+, \$([0-9.]+[0-9])")
    told = {name: eighth.search(load(name).sources.get("price", "")) for name in names()}
    found = {name: float(each[1]) for name, each in told.items() if each}
    assert set(found) == {"a100", "h100", "h200", "b200"}
    for name, whole in found.items():
        price = load(name).price
        assert price and price.usd_per_hour == pytest.approx(whole / 8, abs=5e-5), name


def test_a_price_is_overridden_beside_ours_and_wants_its_source(tmp_path: Path) -> None:
    mine = 'extends = "inf2.xlarge"\n[price]\nusd_per_hour = 0.3\nas_of = "2025-07"\n'
    assert "price.usd_per_hour is changed here" in refused(own(tmp_path, "inf2.xlarge", mine))
    own(tmp_path, "inf2.xlarge", mine + '[sources]\nprice = "our contract"\n')
    price = load("inf2.xlarge").price
    assert price is not None
    assert (price.usd_per_hour, price.region) == (0.3, "us-east-1")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("achieved = { bandwidth = 3.0 }", "hardware.achieved.bandwidth"),
        ("achieved = { speed = 0.5 }", "hardware.achieved.speed"),
        ('core_memory = "8 GiB"', "hardware.core_memory"),
        ("watts = -1", "hardware.watts"),
        ("unified = 1", "hardware.unified"),
    ],
)
def test_what_the_planner_reads_is_checked(tmp_path: Path, line: str, key: str) -> None:
    text = MINIMAL.replace("cores = 4", f"cores = 4\n{line}")
    assert f": {key} " in refused(own(tmp_path, "mine", text))


@pytest.mark.parametrize("name", ["a..b", ".a", "a.", "-a", "a_b", "A", "a/b"])
def test_what_is_no_name_of_a_target_is_none(name: str) -> None:
    assert TARGET.fullmatch(name) is None


def test_every_profile_is_written_and_read_again_the_same(tmp_path: Path) -> None:
    for name in names():
        profile = load(name)
        path = tmp_path / "again" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_toml(profile), encoding="utf-8")
        assert load(path).digest == profile.digest


def test_diff_shows_what_is_not_in_common() -> None:
    rows = {row["key"]: row for row in diff_rows(load("jetson-orin-nano"), load("jetson-orin-nx"))}
    assert (rows["hardware.cores"]["one"], rows["hardware.cores"]["other"]) == (6, 8)
    assert "hardware.arch" not in rows
    assert diff_rows(load("m1"), load("m1")) == []
