"""Toolchains that take from source: what a lock says of it, and what is taken of an archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgeward.compiler.toolchains import from_source
from edgeward.compiler.toolchains.from_source import (
    build_settings,
    processor,
    require_compiler,
    unpack,
)
from edgeward.compiler.toolchains.lock import Unpacked, parse_lock, read_lock
from edgeward.compiler.toolchains.pip import install_command
from edgeward.compiler.toolchains.registry import lock_path
from edgeward.errors import ToolchainError

LOCK = """
# description: something that is built
# compile: first second
# setting: CMAKE_ARGS=-DA=ON -DB=OFF
# setting: CC=gcc
# unpack: thing==1.0 vendor/part vendor/one.py
first==1.0
second==2.0
"""
PART = Unpacked("thing==1.0", ("vendor/part", "vendor/one.py"))


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def test_a_lock_says_what_is_built_and_what_is_unpacked() -> None:
    lock = parse_lock("x", LOCK)
    assert lock.compiled == ("first", "second")
    assert lock.settings == ("CMAKE_ARGS=-DA=ON -DB=OFF", "CC=gcc")
    assert lock.unpacked == (PART,)
    assert build_settings(lock) == {"CMAKE_ARGS": "-DA=ON -DB=OFF", "CC": "gcc"}
    bare = parse_lock("x", "a==1\n")
    assert (bare.compiled, bare.settings, bare.unpacked) == ((), (), ())


def test_the_locks_of_gguf_are_of_one_version_of_llama() -> None:
    engine, converter = (read_lock(name, lock_path(name)) for name in ("llama", "gguf"))
    pins = [pin for pin in engine.pins if pin.startswith("llama_cpp_python")]
    assert pins == [wanted.pin for wanted in converter.unpacked]
    assert engine.compiled == ("llama_cpp_python",)


def test_what_is_built_is_asked_for_as_source() -> None:
    command = install_command(Path("python"), Path("constraints"), "a==1", compiled=("a", "b"))
    words = [str(word) for word in command]
    assert any("no-binary" in word and "a" in word and "b" in word for word in words)
    plain = [str(word) for word in install_command(Path("python"), Path("constraints"), "a==1")]
    assert not any("no-binary" in word for word in plain)


def test_without_a_compiler_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(from_source.shutil, "which", lambda _: None)
    with pytest.raises(ToolchainError, match=r"toolchain x needs a C\+\+ compiler") as error:
        require_compiler(parse_lock("x", LOCK))
    assert "first, second" in error.value.why
    require_compiler(parse_lock("x", "a==1\n"))
    monkeypatch.setenv("CXX", "/opt/c++")
    require_compiler(parse_lock("x", LOCK))


def test_the_processor_is_told_by_its_instructions() -> None:
    assert processor() == processor()
    assert processor()


def test_parts_of_an_archive_land_beside_each_other(tmp_path: Path) -> None:
    source = archive(
        tmp_path / "thing-1.0.tar.gz",
        {
            "thing-1.0/vendor/part/a.py": b"a",
            "thing-1.0/vendor/part/deep/b.py": b"b",
            "thing-1.0/vendor/one.py": b"one",
            "thing-1.0/vendor/other.py": b"other",
            "thing-1.0/vendor/part-two/c.py": b"c",
        },
    )
    unpack(source, PART, tmp_path / "site")
    found = {p.relative_to(tmp_path / "site").as_posix(): p.read_bytes()
             for p in (tmp_path / "site").rglob("*") if p.is_file()}  # fmt: skip
    assert found == {"part/a.py": b"a", "part/deep/b.py": b"b", "one.py": b"one"}


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = archive(tmp_path / "thing.tar.gz", {"thing-1.0/vendor/part/a.py": b"a"})
    with pytest.raises(ToolchainError, match=r"thing==1\.0 has no vendor/one\.py"):
        unpack(source, PART, tmp_path / "site")


@pytest.mark.parametrize(
    "name", ["thing-1.0/vendor/part/../../../../out.py", "thing-1.0/../vendor/part/out.py"]
)
def test_a_path_that_leaves_the_place_is_not_followed(tmp_path: Path, name: str) -> None:
    files = {
        "thing-1.0/vendor/part/a.py": b"a",
        "thing-1.0/vendor/one.py": b"one",
        name: b"out",
    }
    unpack(archive(tmp_path / "thing.tar.gz", files), PART, tmp_path / "deep" / "er" / "site")
    assert not list(tmp_path.rglob("out.py"))


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "thing.tar.gz",
        {"thing-1.0/vendor/part/a.py": b"a", "thing-1.0/vendor/one.py": b"one"},
    )
    with tarfile.open(tmp_path / "linked.tar.gz", "w:gz") as target, tarfile.open(path) as source:
        for member in source.getmembers():
            target.addfile(member, source.extractfile(member))
        link = tarfile.TarInfo("thing-1.0/vendor/part/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(link)
    unpack(tmp_path / "linked.tar.gz", PART, tmp_path / "site")
    assert [p.name for p in (tmp_path / "site" / "part").iterdir()] == ["a.py"]
