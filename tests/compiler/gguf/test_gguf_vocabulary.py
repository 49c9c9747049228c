"""The proof of a GGUF's vocabulary: real tokenizers pass, files that were tampered with do not."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bare_gguf import bare_gguf
from documents import ROOT
from fresh_cache import fresh_cache
from real_model import minilm
from smollm2 import smollm2

from edgeward.compiler.child import clean_environment
from edgeward.compiler.compile import CompileRequest, stage_runner
from edgeward.compiler.formats.gguf_vocabulary import (
    BOUNDS,
    METRICS,
    VocabularyProof,
    prove_vocabulary,
)
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.source import Source, open_source
from edgeward.compiler.stages import StageInput, StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.errors import ProofError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
Prove = Callable[[Source, Path], VocabularyProof]


@pytest.fixture(scope="module")
def prove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prove]:
    folder = tmp_path_factory.mktemp("proofs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(folder / "cache")))
        with stage_runner(CompileRequest("", (), folder), NullReporter()) as stages:
            yield lambda source, file: proved(stages, source, file)


def proved(stages: StageRunner, source: Source, file: Path) -> VocabularyProof:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return prove_vocabulary(source, StageInput(file, digest), stages)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    python = Toolchains().ensure("gguf", NullReporter()).python
    script = ROOT / "tests" / "support" / "make_vocabularies.py"
    paths = f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}"
    environment = clean_environment({"PYTHONPATH": paths})
    subprocess.run([python, script, folder], check=True, capture_output=True, env=environment)
    return folder


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("smol") / "smol.gguf"
    return bare_gguf(smollm2(), file, "vocabulary")


def test_byte_level_bpe_is_the_originals(prove: Prove, smol: Path) -> None:
    found = prove(open_source(str(smollm2())), smol)
    assert found.metrics == dict.fromkeys(METRICS, 1.0)
    found.require()
    assert all(bound.check(found.metrics[bound.metric]).passed for bound in BOUNDS)
    assert [result.data["summary"] for result in found.results][1].startswith("ids, texts")


@pytest.mark.parametrize("kind", ["sentencepiece", "unigram"])
def test_other_tokenizers_are_the_originals(
    prove: Prove, tiny: Path, tmp_path: Path, kind: str
) -> None:
    file = bare_gguf(tiny / kind, tmp_path / "tiny.gguf", "vocabulary")
    found = prove(open_source(str(tiny / kind)), file)
    assert {name: found.metrics[name] for name in METRICS} == dict.fromkeys(METRICS, 1.0)


def test_what_wordpiece_cannot_is_told_and_not_held_to(prove: Prove, tmp_path: Path) -> None:
    file = bare_gguf(minilm(), tmp_path / "minilm.gguf", "vocabulary")
    found = prove(open_source(str(minilm())), file)
    found.require()
    assert {name: found.metrics[name] for name in METRICS} == dict.fromkeys(METRICS, 1.0)
    assert found.metrics["vocabulary_limits_equal"] < 1
    assert "not held to: token ids of Korean" in str(found.results[1].data["summary"])


def key(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()


def number(name: str, value: int) -> bytes:
    return key(f"tokenizer.ggml.{name}_token_id") + struct.pack("<II", 4, value)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


# What stands in the file, what it is made, what the proof says.
TAMPERED = {
    "pre-tokenizer": (text("smollm"), text("falcon"), "token ids of "),
    "merges": (text("i n"), text("q z"), "token ids of "),
    "end of text": (number("eos", 2), number("eos", 5), "eos is 2, in the GGUF 5"),
    "special token": (text("<|im_end|>"), text("<|am_end|>"), "token ids of <|im_end|> in a text"),
    "chat template": (b"{% for message in", b"{% for messag3 in", "the chat template renders"),
    "added beginning": (
        key("tokenizer.ggml.add_bos_token") + struct.pack("<I?", 7, False),
        key("tokenizer.ggml.add_bos_token") + struct.pack("<I?", 7, True),
        "adds no bos",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_fails_and_says_how(
    prove: Prove, smol: Path, tmp_path: Path, what: str
) -> None:
    before, after, words = TAMPERED[what]
    data = smol.read_bytes()
    assert before in data
    file = tmp_path / "tampered.gguf"
    file.write_bytes(data.replace(before, after))
    with pytest.raises(ProofError) as failed:
        prove(open_source(str(smollm2())), file).require()
    assert failed.value.exit_code == 3
    assert words in failed.value.why
    assert "the GGUF" in failed.value.why


def test_every_token_that_ends_the_originals_texts_ends_the_files(
    prove: Prove, tiny: Path, tmp_path: Path
) -> None:
    """A GGUF names one end of text; generation_config.json may name several."""
    model = tmp_path / "model"
    shutil.copytree(tiny / "sentencepiece", model)
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [2, 9]}))
    file = bare_gguf(model, tmp_path / "tiny.gguf", "vocabulary")
    found = prove(open_source(str(model)), file)
    assert found.metrics["stop_tokens_equal"] < 1
    assert found.findings[0].startswith("the original stops at 9 (")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (key("tokenizer.ggml.merges"), key("tokenizer.ggml.verges"), "no merges"),
        (text("gpt2"), text("gpt3"), "tokenizer 'gpt3' is not one of"),
        (text("smollm"), text("smallm"), "unknown pre-tokenizer type: 'smallm'"),
        (text("<|im_end|>"), text("<|endoftext|>"), ""),
    ],
)
def test_what_llama_cpp_does_not_take_fails_too(
    prove: Prove, smol: Path, tmp_path: Path, before: bytes, after: bytes, words: str
) -> None:
    """A wrong tokenizer is the conversion's fault, not a missing engine."""
    file = tmp_path / "tampered.gguf"
    file.write_bytes(smol.read_bytes().replace(before, after))
    with pytest.raises(ProofError, match="does not take the tokenizer") as failed:
        prove(open_source(str(smollm2())), file)
    assert words in failed.value.why
