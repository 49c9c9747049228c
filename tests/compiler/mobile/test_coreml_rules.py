"""What is told of a Core ML package before any work: its system, its sizes, its bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.compiler.formats import coreml
from edgeward.compiler.formats.base import Job
from edgeward.compiler.formats.coreml_options import (
    CHUNK_BYTES,
    LEAST_IOS,
    cache_length,
    chunk_bytes,
    ios_of,
)
from edgeward.compiler.formats.registry import format_module
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.source import Source
from edgeward.compiler.toolchains.lock import read_lock
from edgeward.compiler.toolchains.registry import lock_path
from edgeward.errors import UnsupportedError, UsageError
from edgeward.targets.load import load, names


def job(
    precision: str = "fp16",
    task: str = "feature-extraction",
    target: str = "iphone-15-pro",
    options: Mapping[str, tuple[str, ...]] | None = None,
) -> Job:
    source = Source(
        folder=Path("/nowhere"), id="org/tiny", revision="", license="", architecture="X",
        model_type="llama", task=task, weights_sha256="0" * 64, digest="d", files=(),
        weight_bytes=1,
    )  # fmt: skip
    return Job(source, load(target), recipe_for("coreml", precision), options=options or {})


def test_every_precision_has_bounds_for_every_kind_of_output_and_a_target() -> None:
    assert format_module("coreml") is coreml
    precisions = set(coreml.precisions())
    kinds = {"vectors", "classes", "tensors", "distributions", "transcripts"}
    assert set(coreml.tolerances()) == {(p, kind) for p in precisions for kind in kinds}
    taken = {p for name in names() for p in load(name).formats.get("coreml", ())}
    assert taken == precisions
    assert set(LEAST_IOS) | {"fp32", "fp16"} == precisions


def test_phones_and_macs_run_packages_of_ios_18() -> None:
    targets = [name for name in names() if "coreml" in load(name).formats]
    assert {"iphone-12", "iphone-15-pro", "m1", "m4"} <= set(targets)
    assert {ios_of(job(target=name)) for name in targets} == {18}


def test_a_precision_that_the_system_is_too_old_for_is_refused() -> None:
    old = {"minimum-ios": ("17",)}
    assert ios_of(job("w8a8", options=old)) == 17
    coreml.check(job("int8-weights", options={"minimum-ios": ("16",)}))
    for precision in ("palette4", "int4-weights", "int4-channels", "mixed"):
        with pytest.raises(UnsupportedError, match="needs iOS 18"):
            coreml.check(job(precision, options=old))
    with pytest.raises(UnsupportedError, match="text generator needs iOS 18"):
        coreml.check(job(task="text-generation", options=old))
    with pytest.raises(UsageError, match="minimum-ios=15"):
        coreml.check(job(options={"minimum-ios": ("15",)}))


def test_a_target_without_core_ml_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="runs no Core ML"):
        coreml.check(job(target="x86-64-cpu"))


@pytest.mark.parametrize(
    ("given", "size"), [("500MB", 5 * 10**8), ("1.5 GB", 1_500_000_000), ("4096", 4096)]
)
def test_a_chunk_size_is_read(given: str, size: int) -> None:
    assert chunk_bytes(job(options={"chunk-size": (given,)})) == size


def test_chunks_of_rounded_weights_are_smaller_and_sizes_are_checked() -> None:
    assert chunk_bytes(job("fp16")) == CHUNK_BYTES[False] > CHUNK_BYTES[True]
    assert chunk_bytes(job("int8-weights")) == CHUNK_BYTES[True]
    for wrong in ("", "0", "x", "-3MB", "5TB"):
        with pytest.raises(UsageError, match="is no size"):
            chunk_bytes(job(options={"chunk-size": (wrong,)}))


def writer(folder: Path, longest: int, *asked: str) -> Job:
    """A text generator of so many positions, asked for a cache of so many tokens."""
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": longest}))
    plain = job(task="text-generation", options={"context-length": asked} if asked else {})
    return replace(plain, source=replace(plain.source, folder=folder))


def test_a_cache_has_the_length_that_the_model_and_the_proof_need(tmp_path: Path) -> None:
    assert cache_length(writer(tmp_path, 8192)) == 512
    assert cache_length(writer(tmp_path, 128)) == 128
    assert cache_length(writer(tmp_path, 8192, "2048")) == 2048
    for longest, wrong in ((8192, "128"), (8192, "0"), (8192, "many"), (1024, "2048")):
        with pytest.raises(UsageError, match=r"tokens|cannot be"):
            cache_length(writer(tmp_path, longest, wrong))
    with pytest.raises(UsageError, match="cannot be") as told:
        cache_length(writer(tmp_path, 1 << 17, "20000"))
    assert "Neural Engine" in told.value.why


def test_what_hears_is_for_older_systems_too_and_its_cache_has_what_its_decoder_writes(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_target_positions": 448}))
    asked = job(task="automatic-speech-recognition", options={"minimum-ios": ("16",)})
    heard = replace(asked, source=replace(asked.source, folder=tmp_path))
    coreml.check(heard)
    assert cache_length(heard) == 448
    assert coreml.coverage().takes("automatic-speech-recognition", "whisper", "")


def test_the_toolchain_holds_what_writes_packages() -> None:
    lock = lock_path("coreml").read_text("utf-8")
    assert "coremltools==9.0" in lock
    assert "\ntorch==" not in lock
    assert read_lock("coreml", lock_path("coreml")).base == "torch"
