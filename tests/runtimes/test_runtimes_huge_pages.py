"""Memory that asks Linux for huge pages: what was allocated within, and nothing else."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.engines.huge_pages import SETTING, Span, added, huge_pages

BYTES = 16 << 20
needs_huge_pages = pytest.mark.skipif(
    sys.platform != "linux" or not Path("/sys/kernel/mm/transparent_hugepage").is_dir(),
    reason="this system has no huge pages to give",
)


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    edges = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(spans(), spans())
def test_what_is_added_is_what_was_not_there(before: list[Span], after: list[Span]) -> None:
    def places(some: list[Span]) -> list[int]:
        return [place for start, end in some for place in range(start, end)]

    found = list(added(before, after))
    assert places(found) == sorted(set(places(after)) - set(places(before)))
    assert all(start < end for start, end in found)


def mapped() -> mmap.mmap:
    block = mmap.mmap(-1, BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for place in range(0, BYTES, mmap.PAGESIZE):
        block[place] = 1
    return block


def asking() -> int:
    """How many bytes of this process have asked."""
    blocks = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    total = 0
    for block in blocks:
        if re.search(r"^VmFlags:.*\bhg\b", block, re.MULTILINE):
            start, end = block.split(maxsplit=1)[0].split("-")
            total += int(end, 16) - int(start, 16)
    return total


@needs_huge_pages
def test_what_is_allocated_within_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    outside, before = mapped(), asking()
    with huge_pages():
        within = mapped()
    assert asking() - before >= BYTES
    assert asking() - before < 2 * BYTES
    assert outside[0] == within[0] == 1


@needs_huge_pages
def test_the_setting_leaves_memory_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "0")
    before = asking()
    with huge_pages():
        within = mapped()
    assert asking() == before
    within.close()


def test_an_error_within_goes_through() -> None:
    with pytest.raises(ValueError, match="within"), huge_pages():
        raise ValueError("within")


@needs_huge_pages
@pytest.mark.parametrize(("setting", "asks"), [("1", True), ("0", False)])
def test_the_weights_of_a_session_ask(tmp_path: Path, setting: str, asks: bool) -> None:
    """In a process of its own: memory that another test freed may have asked already."""
    weights = np.random.default_rng(0).normal(size=(2048, 4096)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4096])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 20)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    code = (
        "import sys, pathlib, test_runtimes_huge_pages as t\n"
        "from edgeward.runtimes.engines import base, onnxruntime\n"
        "options = base.EngineOptions(threads=1)\n"
        "session = onnxruntime.open_model(pathlib.Path(sys.argv[1]), options)\n"
        "print(t.asking())"
    )
    environment = {**os.environ, SETTING: setting, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, check=True, capture_output=True
    )
    assert (int(done.stdout) >= weights.nbytes) is asks
