"""llama.cpp as an engine, on real models beside their float32 ONNX graphs."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from bare_gguf import bare_gguf
from click.testing import CliRunner
from gguf_bundle import gguf_bundle
from llama_here import llama_here
from real_model import minilm
from smollm2 import smollm2, smollm2_half

from edgeward.compiler.compile import CompileRequest, stage_runner
from edgeward.compiler.formats import onnx
from edgeward.compiler.formats.base import Job
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.source import open_source
from edgeward.errors import EngineError, UnsupportedError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.cli_run import run_command
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.llama import LlamaSession, open_model
from edgeward.runtimes.engines.llama_decoder import LlamaState
from edgeward.runtimes.engines.registry import engine_for
from edgeward.runtimes.proof.compare import compare_vectors
from edgeward.runtimes.proof.generation import kl_divergence
from edgeward.runtimes.session import Session
from edgeward.runtimes.tasks.embedding import Embedder
from edgeward.targets.load import load as load_profile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUESTION = "What is the capital of France?"
ONE_THREAD = EngineOptions(threads=1)
PASSAGE = "The ferry to the northern islands leaves from the second pier at a quarter past seven. "
TEXTS = [
    "gate",
    "Where is gate B12?",
    PASSAGE * 20,
    "北京的天气今天很好",
    *(f"Train {n} leaves from platform {n % 7}." for n in range(40)),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama_here(tmp_path_factory.mktemp("packages") / "llama")


@pytest.fixture(scope="module")
def bundle(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("generator")
    return gguf_bundle(folder / "smol", smollm2(), smollm2_half(), "text-generation")


@pytest.fixture(scope="module")
def session(bundle: Bundle) -> Iterator[Session]:
    with load(bundle, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def embedder(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("embedder")
    file = bare_gguf(minilm(), folder / "model.gguf")
    return gguf_bundle(folder / "minilm", minilm(), file, "feature-extraction")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """The embedding model's float32 ONNX graph, unproved, of stages that a user shares."""
    folder = tmp_path_factory.mktemp("onnx")
    with stage_runner(CompileRequest("", (), folder), NullReporter()) as stages:
        source = open_source(str(minilm()))
        job = Job(source, load_profile("x86-64-cpu"), recipe_for("onnx", "fp32"))
        graph = onnx.build(job, stages).model.path
    return Embedder(minilm(), engine_for("onnx").open_model(graph, ONE_THREAD))


def test_the_same_seed_picks_the_same_tokens(session: Session) -> None:
    chat = [{"role": "user", "content": QUESTION}]
    seeded = {"max_tokens": 8, "temperature": 0.8, "top_k": 4, "seed": 3}
    first = list(session.generate(chat, **seeded))  # type: ignore[arg-type]
    assert list(session.generate(chat, **seeded)) == first  # type: ignore[arg-type]
    assert len(first) == 8


def test_the_command_line_streams_and_stops(bundle: Bundle) -> None:
    folder = str(bundle.path)
    done = CliRunner().invoke(run_command, [folder, QUESTION, "--threads", "1"])
    assert done.exit_code == 0
    assert "Paris" in done.stdout
    cut = [folder, QUESTION, "--threads", "1", "--stop", "Paris"]
    assert "Paris" not in CliRunner().invoke(run_command, cut).stdout


def engine_of(session: Session) -> LlamaSession:
    assert isinstance(session.engine, LlamaSession)
    return session.engine


def shape_of(state: LlamaState) -> tuple[int, int]:
    context = state._lease.context
    assert context is not None
    return context.shape.tokens, context.shape.outputs


def test_a_text_grows_without_being_computed_again(session: Session) -> None:
    """Its context holds what it needs, and what it was told before stays as it was."""
    ids = session.generator.encode(PASSAGE * 20)[:260]
    engine = engine_of(session)
    engine._decoder.last._idle.clear()
    state = engine.start()
    state.next_logits(ids[:100])
    assert shape_of(state) == (256, 1)
    grown = [state.next_logits([token]) for token in ids[100:]]
    assert shape_of(state) == (512, 1)
    again = engine.start().logits(ids)[100:]
    assert kl_divergence(again, np.array(grown)) < 1e-4
    kept = engine.start()
    kept.next_logits(ids[:5])
    some = kept.step(np.array([ids[5:9]]), np.ones((1, 9), np.int64), 2)
    assert some.shape[:2] == (1, 2)
    assert np.abs(some[0] - engine.start().logits(ids[:9])[-2:]).max() < 0.3


def test_contexts_go_back_and_are_used_again(session: Session) -> None:
    engine = engine_of(session)
    states = [engine.start() for _ in range(4)]
    for state in states:
        state.next_logits([1, 2, 3])
    del state
    used = {id(one._lease.context) for one in states}
    assert len(used) == 4
    del states
    gc.collect()
    again = engine.start()
    again.next_logits([1, 2, 3])
    assert id(again._lease.context) in used
    assert len(engine._decoder.last._idle) <= 2


def test_threads_share_a_session(session: Session) -> None:
    prompts = ["One, two, three, four,", "The days of the week are Monday,", PASSAGE]
    generator = session.generator
    wanted = [generator.continued(generator.encode(one), 12) for one in prompts]
    found: list[list[int]] = [[] for _ in prompts]

    def run(number: int) -> None:
        found[number] = generator.continued(generator.encode(prompts[number]), 12)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_what_it_cannot_do_it_says(session: Session, bundle: Bundle, tmp_path: Path) -> None:
    engine = engine_of(session)
    assert not engine.batched
    with pytest.raises(UnsupportedError, match="one text at a time"):
        engine.start(2)
    with pytest.raises(UnsupportedError, match="without padding"):
        engine.start().step(np.array([[1, 2]]), np.array([[0, 1]]))
    with pytest.raises(EngineError, match="could not run 1 tokens") as refused:
        engine.start().next_logits([10**6])
    assert "invalid token" in refused.value.why
    with pytest.raises(UsageError, match="does not embed"):
        session.embed(["a"])
    with pytest.raises(EngineError, match="several graphs"):
        open_model(bundle.entry, EngineOptions(parts={"encoder": bundle.entry}))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(bundle.entry.read_bytes()[:10_000_000])
    with pytest.raises(EngineError, match=r"cut\.gguf cannot be loaded") as short:
        open_model(cut, ONE_THREAD)
    assert "it is cut off" in short.value.why
    other = tmp_path / "other.gguf"
    data = bundle.entry.read_bytes()[:2_000_000].replace(b"llama.block_count", b"llama.block_tount")
    other.write_bytes(data + bundle.entry.read_bytes()[2_000_000:])
    with pytest.raises(EngineError, match="cannot load") as lacking:
        open_model(other, ONE_THREAD)
    assert "llama.block_count" in lacking.value.why


def test_it_says_what_it_computes_with(session: Session) -> None:
    ref = session.engine.ref
    assert ref.name == "llama.cpp"
    assert ref.version.startswith("0.3.")
    assert ref.provider.startswith("CPU: ")


def test_it_embeds_what_the_onnx_graph_embeds(embedder: Bundle, exact: Embedder) -> None:
    wanted = exact.embed_batch(exact.prepare(TEXTS))[0]
    with load(embedder, threads=1) as session:
        found = session.embed(TEXTS, batch_size=len(TEXTS))
        assert compare_vectors(wanted, found)["cosine_min"] > 0.9999
        assert np.abs(session.embed(TEXTS[::-1], batch_size=7)[::-1] - found).max() < 2e-3
        ids = np.array([[101, 2054, 102, 0], [101, 102, 0, 0]])
        hidden = session.run({"input_ids": ids, "attention_mask": ids != 0})["last_hidden_state"]
        assert hidden.shape == (2, 4, 384)
        assert not hidden[1, 2:].any()
        for given in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": ids[:1]}):
            with pytest.raises(UsageError, match="do not fit"):
                session.run(given)
        long = np.ones((1, 600), np.int64)
        with pytest.raises(UsageError, match="too long"):
            session.run({"input_ids": long, "attention_mask": long})


def test_the_server_serves_it(embedder: Bundle, packages: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "edgeward.runtimes.server", str(embedder.path)]
    paths = f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{packages}"
    process = subprocess.Popen(
        [*command, "--port", "0", "--ready-file", str(ready), "--threads", "1"],
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        end = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        connection = HTTPConnection("127.0.0.1", json.loads(ready.read_text())["port"], timeout=30)
        connection.request("POST", "/v1/embeddings", json.dumps({"input": TEXTS[:2]}))
        answer = json.loads(connection.getresponse().read())
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
    with load(embedder, threads=1) as session:
        wanted = session.embed(TEXTS[:2])
    found = np.array([one["embedding"] for one in answer["data"]])
    assert np.abs(found - wanted).max() < 1e-6
    assert answer["usage"]["prompt_tokens"] > 8
    assert "edgeward" in metrics
