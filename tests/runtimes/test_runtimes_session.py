"""`load(bundle)`: what an embedded app calls, in the real engine."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import TEXTS, tiny_cases, tiny_weights

from edgeward.errors import EngineError, IntegrityError, UsageError
from edgeward.runtimes import load
from edgeward.runtimes.bundle.read import Bundle
from edgeward.runtimes.session import Session
from edgeward.runtimes.statistics.spool import Spool

WORDS = ["gate", "where is gate b12", "the train", "leaves at noon", "unknown words here"]


@pytest.fixture(scope="module")
def session(tiny_bundle: Bundle) -> Session:
    return load(tiny_bundle, threads=1)


def test_vectors_are_what_the_weights_say(session: Session) -> None:
    wanted = tiny_cases(tiny_weights()).vectors
    np.testing.assert_allclose(session.embed(TEXTS), wanted, atol=1e-6)


def test_a_batch_gives_what_single_texts_give(session: Session) -> None:
    many = (WORDS * 20)[:73]
    alone = np.concatenate([session.embed([text]) for text in many])
    np.testing.assert_allclose(session.embed(many), alone, atol=1e-6)
    np.testing.assert_allclose(session.embed(many, batch_size=3), alone, atol=1e-6)


def test_no_texts_give_no_vectors(session: Session) -> None:
    assert session.embed([]).shape == (0, 8)
    assert session.embed([]).dtype == np.float32


def test_tokens_are_counted(session: Session) -> None:
    assert session.embed_counted(["gate", "the train"]).tokens == 3 + 4
    assert session.embed_counted([]).tokens == 0


@pytest.mark.parametrize(
    "texts", ["gate", b"gate", None, 5, [None], [b"gate"], [5], ["\ud800"], [["gate"]]]
)
def test_what_is_no_list_of_texts_is_refused(session: Session, texts: Any) -> None:
    with pytest.raises(UsageError):
        session.embed(texts)


@pytest.mark.parametrize(
    "options",
    [{"prompt": "nope"}, {"batch_size": 0}, {"queued_ms": -1}, {"queued_ms": float("nan")}],
)
def test_odd_options_are_refused(session: Session, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        session.embed(WORDS, **options)


def test_run_takes_the_graphs_own_inputs(session: Session) -> None:
    ids = np.array([[2, 5, 3]], np.int64)
    found = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_array_equal(found["last_hidden_state"], tiny_weights()[ids])


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"other": np.zeros((1, 1), np.int64)},
        {"input_ids": np.zeros((1, 1), np.int64)},
        {name: np.zeros((1, 1), np.float32) for name in ("input_ids", "attention_mask")},
        {name: np.zeros(3, np.int64) for name in ("input_ids", "attention_mask")},
        {"input_ids": "gate", "attention_mask": object()},
        ["input_ids"],
        None,
    ],
)
def test_inputs_that_do_not_fit_are_refused(session: Session, inputs: Any) -> None:
    with pytest.raises(UsageError):
        session.run(inputs)


@pytest.mark.parametrize("threads", [-1, 100_000])
def test_an_odd_number_of_threads_is_refused(tiny_bundle: Bundle, threads: int) -> None:
    with pytest.raises(UsageError, match="threads"):
        load(tiny_bundle, threads=threads)


def test_a_damaged_bundle_is_not_loaded(tiny_bundle: Bundle, make_bundle: Any) -> None:
    spoiled = make_bundle("spoiled")
    spoiled.entry.write_bytes(b"\0" * spoiled.entry.stat().st_size)
    with pytest.raises(IntegrityError):
        load(spoiled.path)
    with pytest.raises(EngineError, match="cannot load"):
        load(spoiled.path, check="sizes")


def test_a_bundle_for_something_else_does_not_embed(make_bundle: Any) -> None:
    other = load(make_bundle("other", changes={"task": "depth-estimation"}))
    with pytest.raises(UsageError, match="depth-estimation"):
        other.embed(WORDS)


def test_threads_may_share_a_session(session: Session) -> None:
    wanted = session.embed(WORDS)
    wrong: list[object] = []

    def work() -> None:
        found = [session.embed(WORDS) for _ in range(50)]
        wrong.extend(one for one in found if not np.array_equal(one, wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_statistics_count_requests_items_tokens_and_errors(tiny_bundle: Bundle) -> None:
    session = load(tiny_bundle, threads=1)
    session.embed(["gate", "the train"], queued_ms=3.0)
    session.run({n: np.ones((3, 2), np.int64) for n in ("input_ids", "attention_mask")})
    with pytest.raises(UsageError):
        session.embed(["\ud800"])
    stats = session.stats()
    assert (stats.requests, stats.items, stats.tokens_in) == (3, 5, 7)
    assert stats.errors == {"UsageError": 1}
    assert stats.latency.count == 2
    assert stats.queue.p50 == pytest.approx(3.0, rel=0.01)
    assert stats.load_ms > 0


def test_statistics_reach_the_spool_when_it_is_closed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with load(tiny_bundle, threads=1) as session:
        session.spool_to(tmp_path / "spool", 3600)
        session.embed(WORDS)
    ((_, delta),) = Spool(tmp_path / "spool").peek()
    assert (delta["bundle"], delta["requests"]) == (tiny_bundle.digest, 1)
    assert {"latency_ms", "load_ms"} <= set(delta["sketches"])


def test_nothing_of_a_converter_is_imported(tiny_bundle: Bundle) -> None:
    code = (
        "import sys; from edgeward.runtimes import load\n"
        f"load({str(tiny_bundle.path)!r}).embed(['gate'])\n"
        "import edgeward.runtimes.server.app, edgeward.runtimes.selftest\n"
        "found = {'torch', 'transformers', 'onnx', 'tensorflow'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_vectors_that_are_not_finite_are_an_error_that_counts(make_bundle: Any) -> None:
    session = load(make_bundle("spoiled", noise=float("nan")), threads=1)
    with pytest.raises(EngineError, match="not finite"):
        session.embed(WORDS)
    assert session.stats().errors == {"EngineError": 1}
