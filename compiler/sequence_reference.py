"""The reference stage of encoders with a decoder: what the float32 torch model writes.

Runs inside the format's toolchain. Texts go through the model's own tokenizer, sounds through its
own feature extractor, and what is written is compared with transformers' own `generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import SourceError
from edgeward.runtimes.proof.generation import generation_case
from edgeward.runtimes.proof.sequences import SequenceCase, write_cases
from edgeward.runtimes.proof.sketch import sketch
from edgeward.runtimes.tasks.sequences import likeliest
from edgeward.runtimes.tasks.speech import SpokenRules, writing_limit
from edgeward.runtimes.tasks.writing_rules import WritingRules, read_rules

from .given_stage import INPUT, kept_files
from .reference_model import load_model, load_tokenizer
from .sequence_sources import Given, open_sources
from .stage_context import StageContext
from .tasks import task_spec

EVALUATION, SHAPES_NAME = "evaluation", "shapes.safetensors"
GOLDEN_TOKENS, EVALUATION_TOKENS = 24, 48
# What thirty seconds of fast speech take: a transcript is not cut short.
TRANSCRIPT_TOKENS = 224
_EVALUATED = 24
_PLAIN = {
    "num_beams": 1,
    "do_sample": False,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "forced_eos_token_id": None,
    "length_penalty": 1.0,
}


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `golden/`, `evaluation/` and `shapes.safetensors`."""
    spec, folder = task_spec(params["task"]), context.inputs["source"]
    model = load_model(folder, spec.auto_class)
    original = _Original(folder, model, spec.modality == "speech")
    sources = open_sources(spec.modality, folder, model)
    context.progress(0.2, "golden inputs")
    named = dict(zip(params["golden_names"], params["golden_texts"], strict=True))
    golden = [original.case(given, GOLDEN_TOKENS) for given in sources.golden(named)]
    write_cases(context.out, golden)
    context.progress(0.5, "evaluation set")
    given = sources.from_files(kept_files(context.inputs.get(INPUT), _EVALUATED))
    evaluated = given or sources.evaluation(params["evaluation_texts"])[:_EVALUATED]
    evaluation = [
        original.case(one, TRANSCRIPT_TOKENS if one.words else EVALUATION_TOKENS)
        for one in evaluated
    ]
    write_cases(context.out / EVALUATION, evaluation)
    context.progress(0.8, "shapes that were not traced")
    untraced = sources.untraced(params["seed"])
    _write_shapes(context.out, original, untraced, params["seed"])
    tokens = sum(len(case.written.greedy) for case in evaluation)
    return {
        "shapes": [list(given.shape) for given in untraced],
        "cases": len(golden),
        "summary": f"torch float32, {len(golden)} golden and {len(evaluation)} evaluation cases "
        f"of {tokens} tokens",
    }


class _Original:
    """The torch model and its own files, asked as the artifact will be."""

    def __init__(self, folder: Path, model: Any, speech: bool) -> None:
        self._model, self._tokenizer = model, load_tokenizer(folder)
        self._spoken = SpokenRules(folder) if speech else None
        self._rules = read_rules(folder)
        self._limit = writing_limit(folder)
        self.vocabulary = int(model.config.vocab_size)

    def case(self, given: Given, most: int) -> SequenceCase:
        """Return what is written behind one source: at most `most` tokens, every position kept."""
        running = _Running(self._model, given.tensors)
        rules = self._rules_for(given)
        tokens = min(most, self._limit - len(rules.prefix) - 1)
        greedy = likeliest(running, rules, tokens)
        ids = [*rules.prefix, *greedy]
        logits = np.asarray(self.logits(given.tensors, np.array([ids]))[0])
        if not np.isfinite(logits).all():
            raise SourceError(
                f"The model's logits are not finite for {given.name}",
                why="its weights hold NaN or infinities, or it overflows in float32",
            )
        told = generation_case(given.name, given.text, ids, logits, greedy, positions=None)
        frames = None
        if given.sound is not None:
            frames = sketch(given.tensors["input_features"].numpy()).values
        text = self._generated(given.tensors, rules, len(greedy))
        return SequenceCase(
            told, len(rules.prefix), text, given.source_ids, given.sound, frames, given.words
        )

    def logits(self, tensors: Mapping[str, Any], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the logits after each of the decoder's tokens (rows, tokens, vocabulary)."""
        import torch

        with torch.inference_mode():
            found = self._model(**tensors, decoder_input_ids=torch.from_numpy(ids), use_cache=False)
        return np.asarray(found.logits.float().numpy(), np.float32)

    def _rules_for(self, given: Given) -> WritingRules:
        if self._spoken is None:
            return self._rules

        def first_logits(prefix: Sequence[int]) -> NDArray[np.float32]:
            return np.asarray(self.logits(given.tensors, np.array([list(prefix)]))[0, -1])

        return self._spoken.given(first_logits)

    def _generated(self, tensors: Mapping[str, Any], rules: WritingRules, tokens: int) -> str:
        """What transformers' own `generate` writes: the truth for the rules of both."""
        import torch

        forced = len(rules.prefix) - 1 if self._spoken is None else 0
        with torch.inference_mode():
            found = self._model.generate(**tensors, **_PLAIN, max_new_tokens=tokens + forced)
        text: str = self._tokenizer.decode(found[0], skip_special_tokens=True)
        return text


class _Running:
    """One sequence through the torch model, with its cache."""

    def __init__(self, model: Any, tensors: Mapping[str, Any]) -> None:
        import torch

        self._model, self._cache = model, None
        mask = tensors.get("attention_mask")
        self._masked = {} if mask is None else {"attention_mask": mask}
        with torch.inference_mode():
            self._read = model.get_encoder()(**tensors)

    def next_logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Add tokens and return the logits after the last."""
        import torch

        with torch.inference_mode():
            found = self._model(
                decoder_input_ids=torch.tensor([list(ids)]),
                encoder_outputs=self._read,
                past_key_values=self._cache,
                use_cache=True,
                **self._masked,
            )
        self._cache = found.past_key_values
        return np.asarray(found.logits[0, -1].float().numpy(), np.float32)


def _write_shapes(out: Path, original: _Original, given: Sequence[Given], seed: int) -> None:
    from safetensors.numpy import save_file

    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    for number, one in enumerate(given):
        rows, _, past, new = one.shape
        ids = generator.integers(0, original.vocabulary, (rows, past + new), np.int64)
        for name, tensor in one.tensors.items():
            tensors[f"{number}.in.{name}"] = np.ascontiguousarray(tensor.numpy())
        tensors[f"{number}.ids"], tensors[f"{number}.past"] = ids, np.array(past, np.int64)
        tensors[f"{number}.logits"] = np.ascontiguousarray(
            original.logits(one.tensors, ids)[:, past:]
        )
    save_file(tensors, out / SHAPES_NAME)
