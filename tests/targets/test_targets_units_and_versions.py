"""Quantities and version constraints."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version as Reference

from edgeward.targets.units import (
    format_bandwidth,
    format_rate,
    format_size,
    parse_bandwidth,
    parse_rate,
    parse_size,
)
from edgeward.targets.versions import check_constraint, parse_version, satisfies

COUNTS = st.integers(1, 2**62)
RELEASE = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(
    lambda parts: ".".join(map(str, parts))
)
SUFFIX = st.sampled_from(
    ["", "a1", "b2", "rc1", ".post1", ".post0", ".dev1", "rc1.post2", "rc1.dev1", ".post1.dev2"]
)
VERSIONS = st.builds(str.__add__, RELEASE, SUFFIX)
CLAUSES = st.one_of(
    st.builds(str.__add__, st.sampled_from(["==", "!=", ">=", "<=", ">", "<"]), VERSIONS),
    st.builds(lambda op, release: f"{op}{release}.*", st.sampled_from(["==", "!="]), RELEASE),
    VERSIONS.filter(lambda text: "." in text.split("p")[0].split("d")[0]).map("~={}".format),
)
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=400)


@QUIET
@given(COUNTS)
def test_what_is_formatted_parses_to_the_same_number(count: int) -> None:
    assert parse_size(format_size(count)) == count
    assert parse_bandwidth(format_bandwidth(count)) == count
    assert parse_rate(format_rate(count)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [("8 GiB", 8 * 2**30), ("8 GB", 8 * 10**9), ("0.5 KiB", 512), ("7 B", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "8",
        "8GiB",
        "8 gib",
        "8  GiB",
        "-8 GiB",
        "nan GiB",
        "1e9 GiB",
        "0 GiB",
        "9" * 19 + " TiB",
        "",
    ],
)
def test_sizes_are_strict(text: str) -> None:
    with pytest.raises(ValueError, match=r"unit|range"):
        parse_size(text)


def test_a_bandwidth_is_no_size() -> None:
    with pytest.raises(ValueError, match="GB/s"):
        parse_bandwidth("68 GB")


@pytest.mark.parametrize(
    ("count", "text"), [(2**30, "1 GiB"), (68 * 10**9, "68 GB"), (6039797760, "5.625 GiB")]
)
def test_sizes_are_written_for_people(count: int, text: str) -> None:
    assert format_size(count) == text


@QUIET
@given(VERSIONS, st.lists(CLAUSES, min_size=1, max_size=2))
def test_constraints_agree_with_pep_440(version: str, clauses: list[str]) -> None:
    try:
        reference = SpecifierSet(",".join(clauses))
    except ValueError:
        return
    assert satisfies(version, ",".join(clauses)) == reference.contains(version, prereleases=True)


@QUIET
@given(VERSIONS, VERSIONS)
def test_versions_sort_as_in_pep_440(one: str, other: str) -> None:
    ours = parse_version(one).key < parse_version(other).key
    assert ours == (Reference(one) < Reference(other))


@pytest.mark.parametrize(
    ("version", "constraint", "expected"),
    [
        ("1.23.2", "==1.23.2", True),
        ("1.23.2+cu126", "==1.23.2", True),
        ("1.24.0", "==1.23.2", False),
        ("1.32.0", ">=1.23", True),
        ("3.10.12", "==3.10.*", True),
        ("3.1.0", "==3.10.*", False),
    ],
)
def test_the_constraints_that_profiles_use(version: str, constraint: str, expected: bool) -> None:
    assert satisfies(version, constraint) is expected


@pytest.mark.parametrize(
    "constraint",
    ["", "1.23", "=1.23", "==", ">=1.*", "==1.x", "~=1", "==1.2+cu1", ">=1,", "==1;", "=" * 200],
)
def test_bad_constraints_say_so(constraint: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_constraint(constraint)


@QUIET
@given(st.text(max_size=30), st.text(max_size=30))
def test_hostile_text_is_a_value_error(version: str, constraint: str) -> None:
    with contextlib.suppress(ValueError):
        parse_version(version)
    with contextlib.suppress(ValueError):
        check_constraint(constraint)
