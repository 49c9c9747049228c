"""Generating text: the cache, whole characters, stop strings, ends, limits, the proof's figures."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoder import (
    CONTEXT,
    END,
    TURN_END,
    VOCABULARY,
    ScriptedEngine,
    byte_tokenizer,
    following,
    write_folder,
)

from edgeward.errors import IntegrityError, UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.proof.generation import (
    WORST_SURPRISAL,
    GenerationCase,
    generation_case,
    golden_metrics,
    greedy_agreement,
    kept_divergence,
    kl_divergence,
    perplexity,
    read_cases,
    top1_agreement,
    write_cases,
)
from edgeward.runtimes.tasks.generation import Generator
from edgeward.runtimes.tasks.streaming import Piece, TextStream

TOKENIZER = byte_tokenizer()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
STOPS = st.lists(st.text("abc\u00e9", min_size=1, max_size=4), max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("decoder") / "tiny")


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    engine = open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1))
    return Generator(folder, engine)


def scripted(folder: Path, script: str | Sequence[int]) -> Generator:
    ids = TOKENIZER.encode(script).ids if isinstance(script, str) else script
    return Generator(folder, ScriptedEngine(ids))


def joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def continuation(ids: Sequence[int], tokens: int) -> list[int]:
    seen = list(ids)
    for _ in range(tokens):
        seen.append(following(seen))
    return seen[len(ids) :]


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 520])
def test_the_cache_carries_what_was_seen(generator: Generator, length: int) -> None:
    """Longer prompts are prefilled in parts."""
    prompt = "ab"[length % 2 :] + "x" * (length - len("ab"[length % 2 :]))
    ids = generator.encode(prompt)
    assert len(ids) == length
    assert generator.continued(ids, 40) == continuation(ids, 40)


def test_an_engine_without_bindings_gets_arrays(generator: Generator, folder: Path) -> None:
    class Bare:
        def __init__(self, engine: Any) -> None:
            self.ref = engine.ref.model_copy(update={"name": "other"})
            self.inputs, self.outputs = engine.inputs, engine.outputs
            self.run, self.run_prepared = engine.run, engine.run_prepared

    bare = Generator(folder, Bare(open_model(folder / "onnx/model.onnx", EngineOptions(1))))
    ids = generator.encode("where is gate b12")
    assert bare.continued(ids, 30) == continuation(ids, 30)
    np.testing.assert_array_equal(bare.logits(ids), generator.logits(ids))


def test_logits_stand_after_each_token(generator: Generator) -> None:
    ids = generator.encode("x" * 300)
    logits = generator.logits(ids)
    assert logits.shape == (300, VOCABULARY)
    assert logits.dtype == np.float32
    assert logits.argmax(axis=1).tolist() == [following(ids[: n + 1]) for n in range(300)]


def test_threads_may_share_a_generator(generator: Generator) -> None:
    prompts = [generator.encode(letter * 9) for letter in "abcd"]
    wrong: list[object] = []

    def work(ids: list[int]) -> None:
        for _ in range(5):
            found = generator.continued(ids, 20)
            wrong.extend([found] if found != continuation(ids, 20) else [])

    threads = [threading.Thread(target=work, args=(ids,)) for ids in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(TEXTS)
def test_a_text_comes_whole_and_in_whole_characters(text: str) -> None:
    stream = TextStream(TOKENIZER)
    pieces = [stream.add(token) for token in TOKENIZER.encode(text).ids]
    assert "".join([*pieces, stream.flush()]) == text
    assert all(not piece or piece in text for piece in pieces)


@given(st.lists(st.integers(0, VOCABULARY - 1), max_size=60))
def test_tokens_that_are_no_text_end_as_the_tokenizer_says(ids: list[int]) -> None:
    stream = TextStream(TOKENIZER)
    found = "".join([stream.add(token) for token in ids]) + stream.flush()
    whole = TOKENIZER.decode(ids, skip_special_tokens=True)
    assert found.replace("\ufffd", "") == whole.replace("\ufffd", "")


@given(st.text("abc\u00e9 ", max_size=20), STOPS)
def test_nothing_of_a_stop_string_is_shown(text: str, stops: list[str]) -> None:
    stream = TextStream(TOKENIZER, stops)
    shown = ""
    for token in TOKENIZER.encode(text).ids:
        shown += stream.add(token)
        if stream.stopped:
            break
    shown += stream.flush()
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(stop) for stop in stops)]
    if not ends:
        assert (shown, stream.stopped) == (text, False)
        return
    longest = max(len(stop) for stop in stops if text[: ends[0]].endswith(stop))
    assert (shown, stream.stopped) == (text[: ends[0] - longest], True)


def test_a_stop_string_ends_the_text_before_it(folder: Path) -> None:
    pieces = list(scripted(folder, "one\ntwo\n\nthree").stream("say", stop=["\n\n"]))
    assert joined(pieces) == "one\ntwo"
    assert [piece.finish for piece in pieces[-2:]] == [None, "stop"]
    assert joined(list(scripted(folder, "one. two").stream("say", stop="."))) == "one"


def test_half_a_character_waits(folder: Path) -> None:
    texts = [p.text for p in scripted(folder, "a\u20ac\U0001f600b").stream("x", max_tokens=9)]
    assert texts == ["a", "", "", "\u20ac", "", "", "", "\U0001f600", "b"]


def test_the_last_piece_gives_what_was_held(folder: Path) -> None:
    (*_, last) = scripted(folder, "ab").stream("x", max_tokens=2, stop=["bc"])
    assert (last.text, last.finish) == ("b", "length")


def test_one_piece_a_token(folder: Path) -> None:
    ids = TOKENIZER.encode("abc").ids
    pieces = list(scripted(folder, [*ids, TURN_END]).stream("x"))
    assert [piece.token for piece in pieces] == [*ids, TURN_END]
    assert [piece.finish for piece in pieces] == [None, None, None, "stop"]
    assert joined(pieces) == "abc"


@pytest.mark.parametrize(("stated", "ends"), [(END, {END}), ([END, 7], {END, 7}), (None, {2})])
def test_the_generation_config_says_what_ends_a_text(
    tmp_path: Path, stated: object, ends: set[int]
) -> None:
    generator = scripted(write_folder(tmp_path / "m", eos_token_id=stated), [9, 9, min(ends)])
    assert generator.ends == ends
    assert [p.finish for p in generator.stream("x")] == [None, None, "stop"]


def test_the_context_ends_a_text(folder: Path) -> None:
    generator = scripted(folder, [9] * CONTEXT)
    pieces = list(generator.stream("x" * (CONTEXT - 3), max_tokens=50))
    assert [piece.finish for piece in pieces] == [None, None, "length"]
    with pytest.raises(UsageError, match="too long"):
        generator.stream("x" * CONTEXT)


def test_the_prompt_is_run_once_and_each_token_once(folder: Path) -> None:
    engine = ScriptedEngine([9] * 10)
    list(Generator(folder, engine).stream("x" * 300, max_tokens=4))
    assert engine.steps == [256, 44, 1, 1, 1]


def test_a_seed_repeats_a_text(generator: Generator) -> None:
    def draw(seed: int) -> list[int]:
        options: dict[str, Any] = {"temperature": 80.0, "max_tokens": 12, "seed": seed}
        return [piece.token for piece in generator.stream("abc", **options)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": -1},
        {"stop": [""]},
        {"stop": [5]},
        {"stop": ["x"] * 17},
        {"prompt": ""},
        {"prompt": "\ud800"},
        {"prompt": 5},
    ],
)
def test_odd_requests_are_refused_at_once(generator: Generator, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        generator.stream(**{"prompt": "x", **options})


def test_a_graph_without_a_cache_is_refused(folder: Path) -> None:
    engine = ScriptedEngine([1])
    engine.inputs = ["input_ids"]
    with pytest.raises(UnsupportedError, match="not a decoder"):
        Generator(folder, engine)
    engine.inputs = ["input_ids", "past_key_values.0.key", "encoder_hidden_states"]
    with pytest.raises(UnsupportedError, match="encoder_hidden_states"):
        Generator(folder, engine)


ROWS = st.integers(1, 6).flatmap(
    lambda n: st.lists(
        st.lists(st.floats(-20, 20), min_size=12, max_size=12), min_size=n, max_size=n
    )
)


def array(rows: list[list[float]]) -> Any:
    return np.array(rows, np.float32)


@given(ROWS, st.integers(0, 2**31))
@settings(deadline=None)
def test_divergence_is_zero_for_the_same_and_above_for_others(
    rows: list[list[float]], seed: int
) -> None:
    wanted = array(rows)
    found = wanted + np.random.default_rng(seed).normal(size=wanted.shape).astype(np.float32)
    assert kl_divergence(wanted, wanted + 3) == pytest.approx(0, abs=1e-6)
    assert kl_divergence(wanted, found) > 0
    assert top1_agreement(wanted, wanted * 2) == 1
    for tokens in (1, 4, 12):
        case = generation_case("a", "", [0] * len(rows), wanted, (), tokens=tokens)
        kept = kept_divergence(case, found).mean()
        assert 0 <= kept <= kl_divergence(wanted, found) + 1e-5
        assert tokens < 12 or kept == pytest.approx(kl_divergence(wanted, found), abs=1e-5)


def test_divergence_of_two_known_distributions() -> None:
    wanted, found = np.log(array([[0.5, 0.5]])), np.log(array([[0.9, 0.1]]))
    by_hand = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert kl_divergence(wanted, found) == pytest.approx(by_hand, rel=1e-5)


def test_what_is_not_finite_or_misshapen_counts_as_the_worst() -> None:
    rows = array([[0, 1], [1, 0]])
    assert kl_divergence(rows, rows * np.float32("nan")) == 1e6
    assert kl_divergence(rows, rows[:1]) == 1e6
    assert top1_agreement(rows, rows[:1]) == 0
    case = generation_case("a", "", [1, 0], rows, ())
    assert (kept_divergence(case, rows * np.float32("nan")) == 1e6).all()


def test_perplexity_of_even_logits_is_the_vocabulary() -> None:
    assert perplexity(np.zeros((9, 50), np.float32), [1] * 9) == pytest.approx(50)
    sure = np.full((3, 5), -1e4, np.float32)
    sure[[0, 1], [3, 4]] = 0
    assert perplexity(sure, [2, 3, 4]) == pytest.approx(1)
    assert perplexity(sure, [2, 3, 1]) == pytest.approx(np.exp(WORST_SURPRISAL))
    assert perplexity(sure[:1], [2]) == 1


@given(st.lists(st.integers(0, 3), max_size=9), st.lists(st.integers(0, 3), max_size=9))
def test_greedy_agreement_counts_to_the_first_departure(a: list[int], b: list[int]) -> None:
    pairs = zip(a, b, strict=False)
    equal = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    assert greedy_agreement(a, b) == (equal / len(a) if a else 1)


def case_of(generator: Generator, text: str) -> GenerationCase:
    ids = generator.encode(text)
    greedy = generator.continued(ids, 8)
    return generation_case(text[:5], text, ids, generator.logits(ids), greedy, tokens=40)


def test_a_generator_agrees_with_itself_and_not_with_another(
    generator: Generator, tmp_path: Path
) -> None:
    cases = [case_of(generator, text) for text in ("gate b12", "x" * 70)]
    write_cases(tmp_path, cases)
    found = golden_metrics(generator, read_cases(tmp_path))
    assert found == {
        "kl_mean": pytest.approx(0, abs=1e-6),
        "kl_max": pytest.approx(0, abs=1e-6),
        "top1_agreement": 1,
        "greedy_agreement": 1,
        "greedy_agreement_min": 1,
        "perplexity_ratio": pytest.approx(1),
        "token_ids_equal": 1,
    }
    other = golden_metrics(scripted(write_folder(tmp_path / "other"), [5] * 99), cases)
    assert other["kl_mean"] > 1
    assert other["top1_agreement"] < 0.5
    assert other["greedy_agreement"] < 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ["a"]},
        {"ids": [-1]},
        {"ids": [1]},
        {"greedy": [True]},
        {"greedy": None},
        {"ids": None},
    ],
)
def test_damaged_cases_are_refused(
    generator: Generator, tmp_path: Path, change: dict[str, Any]
) -> None:
    write_cases(tmp_path, [case_of(generator, "gate b12")])
    path = tmp_path / "golden" / "cases.json"
    document = json.loads(path.read_text())
    document["cases"][0].update(change)
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="damaged"):
        read_cases(tmp_path)
