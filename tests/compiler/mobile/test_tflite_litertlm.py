"""A generator's `.litertlm`: LiteRT-LM itself writes from it what our own session writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from gguf_peers import python_room, run

from edgeward.compiler.progress import NullReporter
from edgeward.compiler.toolchains.manager import Toolchains

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SUPPORT = ROOT / "tests" / "support"
CHATS = [
    [{"role": "user", "content": "Which pier?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which pier?"}],
]
TEXTS = [
    "The ferry",
    "A quiet morning at the harbour, and the boats",
    # Several calls of 128 tokens, the last one padded.
    "The ferry to the northern islands leaves from the second pier. " * 6,
]
UNPACK = """
import sys
from pathlib import Path
from litert_lm_builder import unpack
unpack(sys.argv[1], sys.argv[2])
"""


def python_of(toolchain: str) -> Path:
    return Toolchains().ensure(toolchain, NullReporter()).python


def compiled(model: Path, folder: Path, precision: str, *options: str) -> Path:
    """Return the bundle of a model with its container."""
    command = [
        sys.executable, "-m", "edgeward", "compile", model, "-t", "android-mid", "-p", precision,
        "--format", "tflite", "--option", "litertlm=yes", "-o", folder / "build",
    ]  # fmt: skip
    command += [word for option in options for word in ("--option", option)]
    environment = {**os.environ, "EDGEWARD_CACHE": str(fresh_cache(folder / "cache"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (bundle,) = (folder / "build").iterdir()
    return bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    made = [python_of("litert"), SUPPORT / "make_decoders.py", folder, "llama"]
    run([*made], PYTHONPATH=str(SUPPORT))
    return compiled(folder / "llama", folder, "fp32", "prefill=128", "prefill=6")


def both(bundle: Path, folder: Path, texts: list[str], tokens: int) -> tuple[Any, Any]:
    """Return what our session and LiteRT-LM say to the same."""
    asked = folder / "asked.json"
    asked.write_text(json.dumps({"texts": texts, "chats": CHATS}))
    script, here = SUPPORT / "greedy_slots.py", {"PYTHONPATH": str(ROOT / "src")}
    ours = json.loads(run([python_of("litert-runtime"), script, bundle, tokens, asked], **here))
    asked.write_text(json.dumps({**ours, "chats": CHATS}))
    container = bundle / "model.litertlm"
    peer = [python_room("litert-lm"), SUPPORT / "litert_lm_calls.py", container, asked]
    return ours, json.loads(run([*peer]).splitlines()[-1])


def check_same(ours: Any, theirs: Any) -> None:
    assert [one["tokens"] for one in theirs["texts"]] == [one["tokens"] for one in ours["texts"]]
    for one in theirs["texts"]:
        assert one["found"] == one["wanted"]
    assert theirs["chats"] == ours["chats"]


def test_litert_lm_writes_what_our_session_writes(tiny: Path, tmp_path: Path) -> None:
    ours, theirs = both(tiny, tmp_path, TEXTS, 16)
    check_same(ours, theirs)
    assert max(len(one["tokens"]) for one in ours["texts"]) > 128
    assert (theirs["begin"], theirs["ends"]) == (None, [[2]])


def test_a_text_may_fill_the_cache(tiny: Path, tmp_path: Path) -> None:
    # Three calls of 128 tokens, then one of 6: it pads none past the 390 slots.
    texts = ["The ferry " * 64 + end for end in ("", "To", "The fe")]
    ours, theirs = both(tiny, tmp_path, texts, 1)
    assert [len(one["tokens"]) for one in ours["texts"]] == [384, 385, 387]
    check_same(ours, theirs)


def test_what_lies_in_it_is_the_bundles(tiny: Path, tmp_path: Path) -> None:
    run([python_of("litert"), "-c", UNPACK, tiny / "model.litertlm", tmp_path / "out"])
    files = {path.suffix: path for path in (tmp_path / "out").iterdir()}
    assert files[".tflite"].read_bytes() == (tiny / "model.tflite").read_bytes()
    manifest = json.loads((tiny / "manifest.json").read_text())
    assert "model.litertlm" in [one["path"] for one in manifest["files"]]
    told = files[".pbtext"].read_text()
    assert "max_num_tokens: 390" in told
    assert "generic_model" in told
