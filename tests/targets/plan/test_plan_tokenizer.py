"""What a vocabulary takes: kept beside every engine, and beside what loading takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeward.targets.plan.engines import cost_of
from edgeward.targets.plan.facts import ModelFacts
from edgeward.targets.plan.gather import facts_of
from edgeward.targets.plan.memory import Memory, memory_of
from edgeward.targets.plan.precision import weights_of
from edgeward.targets.plan.tokenizer import LIBRARY, MERGED, WORD_PIECE, kept_bytes

CONFIGS = Path(__file__).parent / "configs"
FORMATS = {"onnxruntime": "fp32 onnx", "litert": "fp32 tflite"}


def smollm2(**changes: object) -> ModelFacts:
    config = json.loads((CONFIGS / "smollm2-135m.json").read_text())["config"]
    return facts_of({**config, **changes}, name="smollm2")


def served(facts: ModelFacts, engine: str, context: int) -> Memory:
    precision, format_ = FORMATS[engine].split()
    weights = weights_of(facts, format_, precision)
    return memory_of(
        facts,
        weights,
        cost_of(engine),
        context=context,
        batch=1,
        sequences=1,
        unit="cpu",
        cache_bits=weights.cache_bits,
    )


def test_an_encoders_words_take_less_and_no_words_nothing() -> None:
    writes = smollm2()
    assert kept_bytes(writes) == LIBRARY + 49152 * MERGED
    assert kept_bytes(replace(writes, kind="encoder")) == LIBRARY + 49152 * WORD_PIECE
    assert kept_bytes(replace(writes, vocabulary=0)) == 0


@pytest.mark.parametrize("engine", FORMATS)
def test_a_tokenizer_stands_beside_every_engine(engine: str) -> None:
    facts = smollm2()
    without = replace(facts, vocabulary=0)
    kept = served(facts, engine, 8192).engine - served(without, engine, 8192).engine
    assert kept == kept_bytes(facts)


def test_of_what_writes_it_stands_beside_what_loading_takes() -> None:
    """A head of its own is packed beside itself, which is more than a short text takes."""
    facts = smollm2(tie_word_embeddings=False)
    without = replace(facts, vocabulary=0)
    assert served(facts, "onnxruntime", 16).total > served(facts, "onnxruntime", 16).weights * 1.2
    more = served(facts, "onnxruntime", 16).total - served(without, "onnxruntime", 16).total
    assert more == kept_bytes(facts)
