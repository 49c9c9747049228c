"""A LoRA adapter as PEFT leaves it: a folder, checked against the model that it was trained on.

Papers: LoRA (arXiv 2106.09685), rsLoRA (2312.03732), DoRA (2402.09353). Nothing of it is executed:
weights are read as safetensors alone, and what changes the model in a way that is not known here is
refused, never left out.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError, UnsupportedError
from edgeward.runtimes.bundle.read import sha256_of
from edgeward.runtimes.tasks.pooling import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ("lora_A.weight", "lora_embedding_A"), ("lora_B.weight", "lora_embedding_B")
_MAGNITUDE = ("lora_magnitude_vector", "lora_magnitude_vector.weight")
_FLOATS = frozenset({"F32", "F16", "BF16"})
_OUTPUT = "lm_head.weight"
_PLAIN_KEY = re.compile(r"[\w.-]{1,200}")
_MAX_RANK = 1 << 16
# What changes more than one weight by a product of two, by the name that PEFT's settings give it.
_STRANGE = (
    "alora_invocation_tokens",
    "arrow_config",
    "invocation_string",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
)
# Ways to begin that change the base's weights too: the adapter alone is not what was trained.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True, slots=True)
class Pair:
    """The change of one weight: `scale` x B A, with A (rank, in) and B (out, rank).

    `tensor` is the weight's name in the model, `a` and `b` are those of the factors in the adapter,
    `magnitude` that of DoRA's lengths (out,), empty without it. An embedding's change is turned.
    """

    tensor: str
    a: str
    b: str
    scale: float
    rank: int
    magnitude: str = ""
    embedding: bool = False


@dataclass(frozen=True, slots=True)
class Adapter:
    """A checked adapter; `alpha` is what its settings state, `transposed` that of Conv1D layers."""

    folder: Path
    sha256: str
    alpha: float
    pairs: tuple[Pair, ...]
    transposed: bool

    @property
    def is_plain(self) -> bool:
        """Whether every weight's scale is alpha over its rank, as a GGUF adapter has it."""
        return all(math.isclose(pair.scale, self.alpha / pair.rank) for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class _Stored:
    dtype: str
    shape: tuple[int, ...]


def read_adapter(folder: Path, model: Path) -> Adapter:
    """Read an adapter and hold it against the weights of the folder `model`, headers alone.

    Raises SourceError where it is damaged, a pickle, a link out of its folder or does not fit the
    model, UnsupportedError where it changes the model in a way that is not known here.
    """
    _check_files(folder)
    settings = _settings(folder)
    stored = _headers(folder / WEIGHTS)
    shards = [_headers(path) for path in model_weights(model)]
    weights = {name: told for shard in shards for name, told in shard.items()}
    found = _grouped(stored)
    pairs = tuple(_pair(module, parts, stored, settings) for module, parts in found.items())
    if not pairs:
        raise SourceError(f"{folder / WEIGHTS} changes no weight")
    transposed = settings.get("fan_in_fan_out") is True
    if any(pair.embedding for pair in pairs) and _OUTPUT not in weights:
        raise UnsupportedError(
            "The adapter changes the embedding of a model that has no output layer of its own",
            why="the original would change the one and not the other",
        )
    for pair in pairs:
        _check_fit(pair, stored, weights, transposed=transposed)
    return Adapter(folder, adapter_digest(folder), _alpha(settings), pairs, transposed)


def adapter_name(folder: Path) -> str:
    """Return the folder's name, as it can be part of a file's."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", folder.resolve().name).strip("-.") or "adapter"


def adapter_digest(folder: Path) -> str:
    """Return the digest of the adapter's two files."""
    digests = [sha256_of(folder / name) for name in (CONFIG, WEIGHTS)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def model_weights(folder: Path) -> list[Path]:
    """Return the files of a model's weights, checked before (see `read_source`)."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    return sorted({folder / str(name) for name in read_json(index)["weight_map"].values()})


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise SourceError(f"No adapter at {folder}", why="expected a folder as PEFT saves it")
    home = folder.resolve()
    for name in (CONFIG, WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise SourceError(f"{folder} has no {name}", why=_instead(folder))
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in (home, home.parent.parent / "blobs")):
            raise SourceError(
                f"{path} is a link that leads out of the adapter",
                why=str(target),
                next="put the file itself in its place",
            )


def _instead(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        return f"{pickled[0]} is a pickle, which can run code: save it with safe_serialization=True"
    return "expected a folder as PEFT saves it"


def _settings(folder: Path) -> dict[str, Any]:
    settings = read_json(folder / CONFIG)
    if not isinstance(settings, dict):
        raise SourceError(f"{folder / CONFIG} is not a JSON object")
    if settings.get("peft_type") != "LORA":
        raise UnsupportedError(
            f"{folder} is no LoRA adapter", why=f"peft_type is {settings.get('peft_type')!r}"[:200]
        )
    strange = [name for name in _STRANGE if settings.get(name)]
    if settings.get("bias", "none") != "none":
        strange.append("bias")
    began = settings.get("init_lora_weights")
    if isinstance(began, str) and began.lower().startswith(_CHANGES_BASE):
        strange.append(f"init_lora_weights={began[:40]}")
    if strange:
        raise UnsupportedError(
            f"{folder} changes more than LoRA's pairs of matrices",
            why=f"its settings have {', '.join(strange)}",
            next="merge it with PEFT (merge_and_unload) and compile the result",
        )
    return settings


def _headers(path: Path) -> dict[str, _Stored]:
    from safetensors import SafetensorError, safe_open

    opener: Any = safe_open
    try:
        with opener(path, framework="numpy") as opened:
            parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {
                name: _Stored(part.get_dtype(), tuple(part.get_shape()))
                for name, part in parts.items()
            }
    except (OSError, SafetensorError) as error:
        raise SourceError(f"{path} is not a whole safetensors file", why=str(error)[:300]) from None


def _grouped(stored: Mapping[str, _Stored]) -> dict[str, dict[str, str]]:
    """Return the tensors of each module by their role: a, b, magnitude; nothing else is known."""
    found: dict[str, dict[str, str]] = {}
    roles = {**dict.fromkeys(_A, "a"), **dict.fromkeys(_B, "b")}
    roles |= dict.fromkeys(_MAGNITUDE, "magnitude")
    for name in sorted(stored):
        ending = next((ending for ending in roles if name.endswith(f".{ending}")), None)
        if ending is None or not name.startswith(_PREFIX):
            raise UnsupportedError(
                "The adapter holds what is no part of a pair of matrices", why=name[:200]
            )
        module = name[len(_PREFIX) : -len(ending) - 1]
        found.setdefault(module, {})[roles[ending]] = name
    return found


def _pair(
    module: str,
    parts: Mapping[str, str],
    stored: Mapping[str, _Stored],
    settings: Mapping[str, Any],
) -> Pair:
    if not {"a", "b"} <= set(parts):
        raise SourceError("The adapter lacks one of a pair of matrices", why=module[:200])
    a, b = stored[parts["a"]], stored[parts["b"]]
    rank = a.shape[0] if a.shape else 0
    fits = len(a.shape) == len(b.shape) == 2 and b.shape[1] == rank and 0 < rank <= _MAX_RANK
    if not fits or not {a.dtype, b.dtype} <= _FLOATS:
        raise SourceError(
            "A pair of matrices does not fit together",
            why=f"{module[:200]}: {a.dtype} {a.shape}, {b.dtype} {b.shape}",
        )
    embedding = parts["a"].endswith("lora_embedding_A")
    if embedding is not parts["b"].endswith("lora_embedding_B"):
        raise SourceError("A pair of matrices is of two kinds", why=module[:200])
    if bool(parts.get("magnitude")) is not (settings.get("use_dora") is True):
        raise SourceError("The settings and the weights disagree about DoRA", why=module[:200])
    root = settings.get("use_rslora") is True
    alpha = _alpha(settings, module)
    scale = alpha / (math.sqrt(rank) if root else rank)
    magnitude = parts.get("magnitude", "")
    name = f"{module}.weight"
    return Pair(name, parts["a"], parts["b"], scale, rank, magnitude, embedding)


def _alpha(settings: Mapping[str, Any], module: str = "") -> float:
    """Return alpha, a module's own where the settings have one for it."""
    alpha = settings.get("lora_alpha")
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise SourceError("alpha_pattern of the adapter is not a JSON object")
    for key, value in patterns.items():
        if not _PLAIN_KEY.fullmatch(key):
            raise UnsupportedError(
                "alpha_pattern of the adapter has a regular expression", why=key[:200]
            )
        if module == key or module.endswith(f".{key}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise SourceError("lora_alpha of the adapter is not a number", why=str(alpha)[:100])
    if not math.isfinite(alpha) or alpha == 0:
        raise SourceError("lora_alpha of the adapter changes nothing or everything", why=str(alpha))
    return float(alpha)


def _check_fit(
    pair: Pair,
    stored: Mapping[str, _Stored],
    weights: Mapping[str, _Stored],
    *,
    transposed: bool,
) -> None:
    weight = weights.get(pair.tensor)
    if weight is None:
        raise SourceError(
            "The adapter changes a weight that the model has not",
            why=f"{pair.tensor[:200]}: of another model, or shared with another weight",
        )
    out, inside = stored[pair.b].shape[0], stored[pair.a].shape[1]
    shape = (inside, out) if pair.embedding or transposed else (out, inside)
    if weight.shape != shape or weight.dtype not in _FLOATS:
        raise SourceError(
            "The adapter does not fit the model",
            why=f"{pair.tensor[:200]} is {weight.dtype} {weight.shape}, the adapter is for {shape}",
        )
    if not pair.magnitude:
        return
    length = stored[pair.magnitude]
    if pair.embedding or transposed or length.shape != (out,) or length.dtype not in _FLOATS:
        raise UnsupportedError("DoRA of this layer is not known here", why=pair.tensor[:200])
