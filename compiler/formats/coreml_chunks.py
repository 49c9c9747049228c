"""Splits a package whose weights are more than the Neural Engine takes at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeward.compiler.mil.package import quiet
from edgeward.errors import UnsupportedError

_MOST = 15


def split(package: Path, most_bytes: int) -> int:
    """Write `chunk2.mlpackage`, … beside a package that is too large; how many there are then.

    The package becomes the first; each hands what it has to the next by the values' names.
    Raises UnsupportedError for a program with states or several functions, where there are several
    packages, and where the weights cannot be parted so far.
    """
    chunks, beside = [package], sorted(package.parent.glob("*.mlpackage"))
    if all(_size(one) <= most_bytes for one in beside):
        return 1
    if len(beside) > 1:
        raise _too_large(package, most_bytes, "packages of several sizes are not split")
    while any(_size(chunk) > most_bytes for chunk in chunks):
        at = next(n for n, chunk in enumerate(chunks) if _size(chunk) > most_bytes)
        if len(chunks) > _MOST:
            raise _too_large(
                package,
                most_bytes,
                f"after {len(chunks)} chunks there is one of {_size(chunks[at]) / 1e6:.0f} MB",
            )
        chunks[at : at + 1] = _halves(chunks[at], most_bytes)
    for number, chunk in enumerate(chunks[1:], start=2):
        chunk.rename(package.with_name(f"chunk{number}.mlpackage"))
    chunks[0].rename(package)
    return len(chunks)


def _halves(package: Path, most_bytes: int) -> list[Path]:
    folder = package.with_name(f"{package.stem}_halves")
    before = _size(package)
    with quiet(), _own_opset():
        import coremltools as ct

        try:
            ct.models.utils.bisect_model(str(package), str(folder), check_output_correctness=False)
        except (ValueError, AttributeError) as error:
            raise _too_large(package, most_bytes, str(error)[:300]) from error
    shutil.rmtree(package)
    halves = [
        (folder / f"{package.stem}_chunk{n}.mlpackage").rename(
            package.with_name(f"{package.stem}_{n}.mlpackage")
        )
        for n in (1, 2)
    ]
    shutil.rmtree(folder)
    if max(map(_size, halves)) >= before:
        raise _too_large(package, most_bytes, "one weight is most of it")
    return halves


@contextmanager
def _own_opset() -> Iterator[None]:
    """coremltools 9.0 makes the second half a program of iOS 16, whose casts know no uint16."""
    from coremltools.models import utils

    theirs = utils._make_second_chunk_prog

    def made(program: Any, at: int) -> Any:
        opset = program.functions["main"].opset_version
        half = theirs(program, at)
        half.functions["main"].opset_version = opset
        return half

    utils._make_second_chunk_prog = made
    try:
        yield
    finally:
        utils._make_second_chunk_prog = theirs


def _too_large(package: Path, most_bytes: int, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{package.name} cannot be split into chunks of {most_bytes / 1e6:.0f} MB",
        why=why,
        next="edgeward compile … --chunk-size 2GB, or a precision of fewer bits",
    )


def _size(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
