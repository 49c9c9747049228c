"""Encoders with a decoder: the cache, the model's rules, the proof's figures, damaged cases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny_decoder import END, VOCABULARY, byte_tokenizer
from tiny_writer import CROSSED, PAST, START, following, present, write_folder

from edgeward.errors import IntegrityError, UnsupportedError, UsageError
from edgeward.runtimes.bundle.manifest import EngineRef
from edgeward.runtimes.engines.base import EngineOptions, EngineSession, Tensor
from edgeward.runtimes.engines.onnxruntime import open_model
from edgeward.runtimes.proof.generation import generation_case
from edgeward.runtimes.proof.sequences import (
    SequenceCase,
    read_cases,
    sequence_metrics,
    write_cases,
)
from edgeward.runtimes.tasks.sequences import SequenceGraph
from edgeward.runtimes.tasks.text_to_text import TextToText

TEXTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=30)
TOKENIZER = byte_tokenizer()


class Elsewhere:
    """The same graphs in an engine that is not ONNX Runtime: plain arrays in and out."""

    def __init__(self, inner: EngineSession) -> None:
        self.ref = EngineRef(name="elsewhere", version="1")
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.parts = {role: Elsewhere(part) for role, part in inner.parts.items()}
        self.run = inner.run
        self._inner = inner

    def run_prepared(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Run."""
        return self._inner.run_prepared(inputs, outputs)


def opened(folder: Path) -> EngineSession:
    parts = {"encoder": folder / "onnx" / "encoder.onnx"}
    return open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1, parts=parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("writer") / "tiny")


@pytest.fixture(scope="module")
def task(folder: Path) -> TextToText:
    return TextToText(folder, opened(folder))


def written(source: Sequence[int], prefix: Sequence[int], tokens: int) -> list[int]:
    ids = list(prefix)
    for _ in range(tokens):
        ids.append(following(source, ids))
        if ids[-1] == END:
            break
    return ids[len(prefix) :]


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


@settings(max_examples=30, deadline=None)
@given(text=TEXTS, tokens=st.integers(1, 12))
def test_it_writes_what_belongs_to_the_text(task: TextToText, text: str, tokens: int) -> None:
    wanted = written(ids_of(text), [START], tokens)
    pieces = list(task.stream(text, max_tokens=tokens))
    assert [piece.token for piece in pieces] == wanted
    assert pieces[-1].finish == ("stop" if wanted[-1] == END else "length")
    inputs = task.inputs(text)
    assert task.continued(inputs, task.rules(inputs), tokens) == wanted


@settings(max_examples=20, deadline=None)
@given(text=TEXTS, cut=st.integers(1, 5))
def test_the_cache_does_not_change_the_logits(task: TextToText, text: str, cut: int) -> None:
    ids = [START, 9, 200, 31, 77, 5]
    whole = task.graph.read(task.inputs(text)).logits(ids)
    target = task.graph.read(task.inputs(text))
    parts = np.concatenate([target.logits(ids[:cut]), target.logits(ids[cut:])])
    assert np.array_equal(parts, whole)
    assert int(whole[-1].argmax()) == following(ids_of(text), ids)


def test_rows_of_a_batch_are_written_side_by_side(task: TextToText) -> None:
    texts = ["one", "another text"]
    encoded = task.tokenizer(texts)
    target = task.graph.read({"input_ids": encoded.ids, "attention_mask": encoded.mask})
    target.step(np.array([[START], [START]]))
    logits = target.step(np.array([[40], [50]]))
    expected = [following(ids_of(t), [START, n]) for t, n in zip(texts, (40, 50), strict=True)]
    assert logits[:, -1].argmax(axis=-1).tolist() == expected


def test_a_text_that_outgrows_its_room_is_not_lost(folder: Path, task: TextToText) -> None:
    ids = [2 + number % 200 for number in range(700)]
    inputs = task.inputs("gate")
    pieces = [ids[:3], *([one] for one in ids[3:300]), ids[300:600], *([one] for one in ids[600:])]
    target = task.graph.read(inputs)
    whole = SequenceGraph(Elsewhere(opened(folder))).read(inputs).logits(ids)
    assert np.array_equal(np.concatenate([target.logits(piece) for piece in pieces]), whole)


def test_two_texts_are_written_by_turns(task: TextToText) -> None:
    first, other = (task.graph.read(task.inputs(text)) for text in ("gate", "another"))
    for at in range(1, 5):
        ids = [START, 40, 50, 60][:at]
        assert int(first.next_logits(ids[-1:]).argmax()) == following(ids_of("gate"), ids)
        assert int(other.next_logits(ids[-1:]).argmax()) == following(ids_of("another"), ids)


def test_no_run_on_a_processor_is_planned_from_another(folder: Path) -> None:
    engine = opened(folder)
    for each in (engine, engine.parts["encoder"]):
        native = each.native  # type: ignore[attr-defined]
        assert not native.get_session_options().enable_mem_pattern


def test_another_engine_writes_the_same(folder: Path, task: TextToText) -> None:
    other = TextToText(folder, Elsewhere(opened(folder)))
    assert list(other.stream("gate B12", max_tokens=9)) == list(
        task.stream("gate B12", max_tokens=9)
    )


def test_the_models_rules_hold(tmp_path: Path) -> None:
    source = ids_of("gate")
    forced = TextToText(
        write_folder(tmp_path / "forced", forced_bos_token_id=17),
        opened(tmp_path / "forced"),
    )
    assert [p.token for p in forced.stream("gate", max_tokens=3)] == written(source, [START, 17], 3)
    first = following(source, [START])
    barred = TextToText(
        write_folder(tmp_path / "barred", begin_suppress_tokens=[first]),
        opened(tmp_path / "barred"),
    )
    tokens = [piece.token for piece in barred.stream("gate", max_tokens=2)]
    assert tokens[0] in (first - 1, first + 1)
    assert tokens[1] == following(source, [START, tokens[0]])


def test_what_is_no_request_is_refused_at_once(task: TextToText) -> None:
    for asked, more in (
        ([{"role": "user", "content": "x"}], {}),
        ("", {}),
        ("x", {"max_tokens": 0}),
        ("x", {"temperature": -1.0}),
        ("x", {"stop": [""]}),
    ):
        with pytest.raises(UsageError):
            task.stream(asked, **more)


def test_graphs_that_do_not_fit_are_refused(folder: Path) -> None:
    alone = open_model(folder / "onnx" / "model.onnx", EngineOptions(threads=1))
    with pytest.raises(UnsupportedError, match="not an encoder and a decoder"):
        SequenceGraph(alone)
    with pytest.raises(UnsupportedError, match=r"no output present\.0\.encoder"):
        parts = {"encoder": folder / "onnx" / "model.onnx"}
        options = EngineOptions(threads=1, parts=parts)
        SequenceGraph(open_model(folder / "onnx" / "model.onnx", options))
    encoder = opened(folder).parts["encoder"]
    assert list(encoder.outputs) == [present(name) for name in CROSSED]
    assert set(PAST) < set(alone.inputs)


def case(task: TextToText, text: str, name: str = "one", tokens: int = 6) -> SequenceCase:
    source = ids_of(text)
    greedy = written(source, [START], tokens)
    ids = [START, *greedy]
    logits = task.graph.read(task.inputs(text)).logits(ids)
    told = generation_case(name, text, ids, logits, greedy, positions=None)
    said = TOKENIZER.decode(greedy, skip_special_tokens=True)
    return SequenceCase(told, 1, said, tuple(source))


def test_a_perfect_artifact_has_perfect_figures(task: TextToText) -> None:
    found = sequence_metrics(task, [case(task, "gate B12"), case(task, "the ferry", "two")])
    assert found["kl_mean"] < 1e-6
    assert found["token_ids_equal"] == found["top1_agreement"] == found["greedy_agreement"] == 1
    assert found["wer"] == 0
    assert found["perplexity_ratio"] == pytest.approx(1)


def test_what_differs_is_measured(task: TextToText) -> None:
    good = case(task, "gate B12")
    other = case(task, "gate B13")
    mixed = replace(good, written=replace(other.written, prompt="gate B12"), text="other words")
    found = sequence_metrics(task, [mixed])
    assert found["kl_mean"] > 0.1
    assert found["top1_agreement"] < 0.5
    assert found["wer"] > 0
    wrong = replace(good, source_ids=(*good.source_ids, 9))
    assert sequence_metrics(task, [wrong])["token_ids_equal"] == 0


def test_words_that_were_given_are_counted_for_both(task: TextToText) -> None:
    good = case(task, "gate B12")
    told = sequence_metrics(task, [replace(good, words=good.text), case(task, "the ferry")])
    assert (told["transcript_wer"], told["transcript_wer_original"]) == (0, 0)
    other = sequence_metrics(task, [replace(good, words="quite other words")])
    assert other["transcript_wer"] == other["transcript_wer_original"] > 0
    assert "transcript_wer" not in sequence_metrics(task, [good])


def test_cases_come_back_as_they_were(task: TextToText, tmp_path: Path) -> None:
    text = case(task, "gate B12")
    sound = np.arange(-50, 50, dtype=np.int16)
    frames = np.ones((3, 4), np.float32)
    heard = replace(text, source_ids=(), sound=sound, frames=frames, words="one two")
    write_cases(tmp_path, [text, heard])
    first, second = read_cases(tmp_path)
    assert (first.text, first.source_ids, first.prefix) == (text.text, text.source_ids, 1)
    assert np.array_equal(first.written.top_ids, text.written.top_ids)
    assert (first.words, second.words) == ("", "one two")
    assert second.sound is not None
    assert np.array_equal(second.sound, sound)
    assert np.abs(second.samples - sound / 32768).max() == 0


def _tensor(name: str, value: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "golden" / "reference.safetensors"
        held = load_file(path)
        if value is None:
            del held[name]
        else:
            held[name] = value
        save_file(held, path)

    return spoil


def _told(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "golden" / "cases.json"
        document = json.loads(path.read_text())
        document["cases"][0].update(changes)
        path.write_text(json.dumps(document))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _tensor("0.ids", None),
        _tensor("0.frames", None),
        _tensor("0.sound", np.zeros(4, np.float32)),
        _tensor("0.sound", np.zeros(0, np.int16)),
        _tensor("0.frames", np.full((2, 2), np.inf, np.float32)),
        _told(prefix=0),
        _told(prefix=99),
        _told(prefix=True),
        _told(text=None),
        _told(source_ids=[-1]),
        _told(source_ids=["x"]),
        _told(ids=[VOCABULARY + 0.5]),
        lambda folder: (folder / "golden" / "cases.json").write_text('{"cases": []}'),
        lambda folder: (folder / "golden" / "cases.json").unlink(),
    ],
)
def test_damaged_cases_are_told(
    task: TextToText, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    heard = replace(
        case(task, "gate"),
        sound=np.ones(9, np.int16),
        frames=np.ones((2, 2), np.float32),
    )
    write_cases(tmp_path, [heard])
    read_cases(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "golden", copy / "golden")
    spoil(copy)
    with pytest.raises(IntegrityError, match="golden inputs"):
        read_cases(copy)
