"""Bundles of one model as GGUF files of many types, for `reality.py`: nothing is proved.

usage: gguf_bundles.py OUT [--types f16,q8_0] [--shapes llama-512,qwen2-896]
       gguf_bundles.py OUT [--types ...] --model FOLDER --half FILE

Models are random weights in the shapes below, with a vocabulary of their own, or a folder of the
Hub with its float16 file. Needed are llama-cpp-python and, for random ones, the package gguf: both
toolchains' packages on the path. Bundles are named MODEL-TYPE; those that are there are left.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from random_gguf import pairs_of, round_to, words_of, write_half

from edgeward.runtimes.bundle.write import writing_bundle

HALF = "f16"
TYPES = f"{HALF},q8_0,q6_k,q4_k_m,q4_0,iq4_xs"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
_INPUTS = ("input_ids", "attention_mask")


def _shape(
    kind: str, hidden: int, layers: int, between: int, heads: int, kv_heads: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": between,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 8192,
        **more,
    }


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "llama-512": _shape("llama", 512, 4, 1536, 8, 4, vocab_size=8000),
    "qwen2-896": _shape("qwen2", 896, 8, 2432, 14, 2, vocab_size=60_000, tie_word_embeddings=True),
    "llama-1024": _shape("llama", 1024, 12, 2816, 16, 16, vocab_size=32_000),
    "gemma-768": _shape(
        "gemma", 768, 6, 3072, 4, 1, vocab_size=100_000, head_dim=256, tie_word_embeddings=True
    ),
}


def main() -> None:
    """Write the bundles and print their folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--half", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    kinds = asked.types.split(",")
    if asked.model:
        written = bundles(asked.out, asked.model, asked.half, kinds)
    else:
        written = random_bundles(asked.out, asked.shapes.split(","), kinds)
    for folder in written:
        print(folder)


def random_bundles(out: Path, shapes: list[str], kinds: list[str]) -> Iterator[Path]:
    """Give the bundles of random models."""
    for name in shapes:
        with tempfile.TemporaryDirectory(dir=out) as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(SHAPES[name]))
            words = words_of(SHAPES[name]["vocab_size"])
            (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(words)))
            half = Path(scratch) / f"{name}.gguf"
            write_half(SHAPES[name], half, words)
            yield from bundles(out, folder, half, kinds)


def bundles(out: Path, model: Path, half: Path, kinds: list[str]) -> Iterator[Path]:
    """Give a bundle of each type."""
    for kind in kinds:
        place = out / f"{model.name}-{kind}"
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=out) as scratch:
                file = half if kind == HALF else Path(scratch) / f"{kind}.gguf"
                if file != half:
                    round_to(half, file, kind, 1)
                _write(place, model, file, "fp16" if kind == HALF else kind)
        yield place


def _write(place: Path, model: Path, file: Path, precision: str) -> None:
    architecture = json.loads((model / "config.json").read_text())["architectures"][0]
    writes = architecture.endswith("ForCausalLM")
    inputs = [{"name": n, "dtype": "int64", "shape": ["batch", "sequence"]} for n in _INPUTS]
    with writing_bundle(place) as writer:
        for name in FILES:
            if (model / name).is_file():
                writer.add(name, model / name)
        writer.add("model.gguf", file)
        writer.write_manifest(
            {
                "schema_version": "1.0",
                "name": place.name,
                "task": "text-generation" if writes else "feature-extraction",
                "entry": "model.gguf",
                "source": {
                    "id": model.name,
                    "architecture": architecture,
                    "weights_sha256": "0" * 64,
                },
                "target": {"name": "x86-64-cpu", "digest": "0" * 64},
                "recipe": {"format": "gguf", "precision": precision},
                "files": [one.model_dump(mode="json") for one in writer.files()],
                "inputs": [] if writes else inputs,
                "outputs": [],
                "proof": {
                    "verified": "engine",
                    "engine": {"name": "llama", "version": "0"},
                    "checks": [],
                },
            }
        )


def _tokenizer(words: list[str]) -> dict[str, Any]:
    merges = [list(pair) for pair in pairs_of(words)]
    halves = sorted({half for pair in merges for half in pair} - set(words))
    vocabulary = {word: number for number, word in enumerate([*words, *halves])}
    return {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}


if __name__ == "__main__":
    main()
