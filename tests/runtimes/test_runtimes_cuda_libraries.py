"""CUDA's libraries from pip are loaded before a session wants them, and nothing is printed."""

from __future__ import annotations

from types import SimpleNamespace

import onnxruntime
import pytest

from edgeward.runtimes.engines.onnxruntime import load_cuda


def test_what_is_missing_is_not_told_on_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def preload_dlls() -> None:
        asked.append(True)
        print("Failed to load libcudnn.so.9")

    load_cuda(SimpleNamespace(preload_dlls=preload_dlls))
    assert asked
    assert capsys.readouterr().out == ""


def test_engines_before_and_without_cuda_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    load_cuda(SimpleNamespace())
    load_cuda(onnxruntime)
    assert capsys.readouterr().out == ""
