"""What llama.cpp keeps in memory on a processor, as edgeward's engine runs it.

Measured on llama-cpp-python 0.3.36 by benchmarks/plan/reality.py, part by part: llama.cpp's log
tells the bytes of its buffers, the kernel what the process holds (VmHWM) after each step.
"""

from __future__ import annotations

from edgeward.runtimes.engines.llama_repacked import is_better_read, is_repacked
from edgeward.targets.profile import Hardware

from .facts import ModelFacts
from .precision import Weights, is_looked_up, is_shared

# A context's room is rounded up to this, and begins with so much more than its prompt
# (`runtimes/engines/llama_decoder.py`); short texts of an encoder share one of that size.
STEP, FIRST_ROOM = 256, 128
# Floats that live at once, a token's: of states and of a feed-forward's inner width.
_WRITER, _READER = (4, 3), (3, 1)
_FLOAT, _HALF = 4, 2


def features_of(hardware: Hardware) -> frozenset[str]:
    """Return what decides what is packed anew, in llama.cpp's words, as far as a profile tells.

    All x86 processors that are described have AVX2. An Arm one with sums of four 8-bit products
    (Armv8.2 SDOT) multiplies them four times as fast as floats.
    """
    if hardware.arch == "x86_64":
        return frozenset({"AVX2"})
    floats, bytes_ = (hardware.rate(name, ("cpu",)) or 0 for name in ("fp32", "int8"))
    is_arm = hardware.arch in ("aarch64", "arm64")
    return frozenset({"DOTPROD"} if is_arm and floats and bytes_ >= 4 * floats else ())


def weights_bytes(facts: ModelFacts, weights: Weights, features: frozenset[str]) -> int:
    """Return the bytes of weights in every form that stands when all is loaded.

    A table of words that is packed anew as the head stays for its rows. What is packed anew of a
    mapped file stands beside it; a file that is read stands there once (`is_better_read`).
    """
    packed = [
        (tensor, size)
        for tensor, type_name, size in weights.types
        if is_repacked(type_name.upper(), tensor.shape, features)
        and not is_looked_up(facts, tensor)
    ]
    repacked = sum(size for _, size in packed)
    if not is_better_read(repacked, weights.file):
        return weights.stored + repacked
    return weights.stored + sum(size for tensor, size in packed if is_shared(facts, tensor))


def kept_tokens(facts: ModelFacts, context: int) -> int:
    """Return the tokens that a context has room for once a prompt has filled `context`."""
    return _rounded(context + FIRST_ROOM) if facts.writes_text else context


def activation_bytes(facts: ModelFacts, tokens: int, context: int, *, exact: bool) -> int:
    """Return the bytes of the buffer that `tokens` are computed in, with attention's mask.

    Attention is fused unless the model is `exact`, in float32: then its scores stand there whole.
    """
    states, inner = _WRITER if facts.writes_text else _READER
    row = states * facts.hidden + inner * facts.intermediate * max(1, facts.active_experts)
    seen = kept_tokens(facts, context)
    scores = facts.heads * _FLOAT * seen if exact else 0
    return tokens * (_FLOAT * row + scores + (_FLOAT if exact else _HALF) * seen)


def logit_bytes(facts: ModelFacts, tokens: int, sequences: int) -> int:
    """Return the bytes of what is given: an encoder's tokens get a row of logits, all unused."""
    if facts.writes_text:
        return _FLOAT * facts.vocabulary * sequences
    return _FLOAT * tokens * (facts.vocabulary + facts.hidden)


def read_at_once(facts: ModelFacts, context: int, batch: int, chunk: int) -> int:
    """Return the tokens that are computed together: a piece of a prompt, or texts that share."""
    if facts.writes_text:
        return min(context, chunk)
    return min(batch * context, max(STEP, context))


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
