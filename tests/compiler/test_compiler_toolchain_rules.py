"""The rules of toolchains that need no toolchain: locks, pip's words, interpreters."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.compiler.toolchains.interpreters import find_interpreter
from edgeward.compiler.toolchains.lock import parse_lock, read_lock, torch_version
from edgeward.compiler.toolchains.pip_words import failure, has_no_match, last_words, phase
from edgeward.compiler.toolchains.registry import TOOLCHAINS, lock_path
from edgeward.errors import ToolchainError

NO_MATCH = [
    "Looking in links: /wheels",
    "ERROR: Could not find a version that satisfies the requirement onnx==9 (from versions: 1, 2)",
    "ERROR: No matching distribution found for onnx==9",
    "[notice] A new release of pip is available",
]
NO_NETWORK = [
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<x>: ",
    *NO_MATCH[1:],
]
NO_SPACE = [
    "Installing collected packages: torch",
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
]


@pytest.mark.parametrize("name", sorted(TOOLCHAINS))
def test_the_locks_that_we_ship_are_exact(name):
    lock = read_lock(name, lock_path(name))
    assert lock.description
    assert lock.disk_bytes > 0
    assert lock.pythons
    assert lock.pins
    assert lock.base is None or lock.base in TOOLCHAINS


def test_the_onnx_toolchain_never_brings_a_torch_of_its_own():
    onnx = read_lock("onnx", lock_path("onnx"))
    assert (onnx.base, onnx.torch) == ("torch", None)
    assert read_lock("torch", lock_path("torch")).torch == "2.13.0"


def test_a_build_of_torch_has_a_name_except_on_macos():
    assert torch_version("2.13.0", "cpu", "linux") == "2.13.0+cpu"
    assert torch_version("2.13.0", "cu128", "linux") == "2.13.0+cu128"
    assert torch_version("2.13.0", "cpu", "darwin") == "2.13.0"


@pytest.mark.parametrize(
    "line",
    ["numpy", "numpy>=2", "numpy==2 --hash=x", "-r other.txt", "https://x/y.whl", "a==1,<2 b"],
)
def test_a_pin_that_is_not_exact_is_refused(line):
    with pytest.raises(ToolchainError, match="line 2"):
        parse_lock("x", f"# base: torch\n{line}\n")


@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_a_clear_error(text):
    try:
        lock = parse_lock("x", text)
    except ToolchainError as error:
        assert "not an exact pin" in error.what
    else:
        assert all("==" in pin for pin in lock.pins)


def test_a_version_that_does_not_exist_is_told_from_a_missing_network():
    assert has_no_match(NO_MATCH)
    missing = failure("onnx", NO_MATCH, "3.11", "linux-x86_64")
    assert "no onnx==9 for Python 3.11 on linux-x86_64" in missing.what
    assert missing.why == "pip: No matching distribution found for onnx==9"
    offline = failure("onnx", NO_NETWORK, "3.11", "linux-x86_64")
    assert "cannot be reached" in offline.what
    assert "PIP_INDEX_URL" in offline.next
    full = failure("onnx", NO_SPACE, "3.11", "linux-x86_64")
    assert "disk is full" in full.what
    assert "--prune" in full.next


@given(st.lists(st.text(max_size=60), max_size=6))
def test_whatever_pip_says_becomes_one_sentence(lines):
    error = failure("onnx", lines, "3.11", "linux-x86_64")
    assert error.what and error.why and error.next
    assert "\n" not in error.what


def test_last_words_prefer_errors_and_skip_notices():
    assert last_words(["ERROR: bad", "then this"]) == "bad"
    assert last_words(["said", "", "[notice] upgrade"]) == "said"
    assert last_words([]) == "pip said nothing"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Collecting numpy==2.4.6 (from -r x)", "resolving numpy"),
        (
            "  Downloading hf_xet-1.8.0-cp37-abi3-manylinux_2_28_x86_64.whl (4.3 MB)",
            "downloading hf-xet, 4.3 MB",
        ),
        ("Processing /opt/wheels/numpy-2.4.6-cp311-linux.whl", "reading numpy"),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
        ("Successfully installed a-1", None),
    ],
)
def test_lines_of_pip_become_a_few_words(line, words):
    assert phase(line) == words


def test_this_python_is_taken_where_the_lock_allows_it():
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    lock = parse_lock("x", f"# python: 3.1 {own}\na==1\n")
    assert find_interpreter(lock).path == Path(sys.executable)
    assert find_interpreter(parse_lock("x", "a==1\n"), own="3.99").version == "3.99"


def test_another_python_on_the_path_is_taken_where_this_one_is_too_old(tmp_path, monkeypatch):
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / f"python{own}").symlink_to(sys.executable)
    shim = tmp_path / "python3.98"
    shim.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
    shim.chmod(0o755)
    liar = tmp_path / "python3.97"
    liar.write_text("#!/bin/sh\necho 3.1\n")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    upper = parse_lock("x", f"# python: {own} 3.97 3.98\na==1\n")
    lower = parse_lock("y", f"# python: 3.10 {own} 3.97 3.98\na==1\n")
    found = find_interpreter(upper, lower, own="3.9")
    assert (found.path, found.version) == (tmp_path / f"python{own}", own)
    with pytest.raises(ToolchainError, match=r"no lock for Python 3\.9"):
        find_interpreter(parse_lock("x", "# python: 3.97 3.98\na==1\n"), own="3.9")
