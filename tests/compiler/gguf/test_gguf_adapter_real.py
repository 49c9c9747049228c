"""Adapters on a model: merged as PEFT computes, one tensor at a time, shards as they were."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from fresh_cache import fresh_cache
from gguf_peers import peft_folder, run
from make_adapter import make_adapter
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from smollm2 import smollm2

from edgeward.compiler.adapter import model_weights
from edgeward.compiler.adapter_merge import adapted
from edgeward.compiler.child import clean_environment
from edgeward.compiler.formats.base import Job
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.recipe import recipe_for
from edgeward.compiler.source import read_source
from edgeward.compiler.stages import StageRunner
from edgeward.compiler.toolchains.manager import Toolchains
from edgeward.targets.load import load as load_profile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SUPPORT = ROOT / "tests" / "support"
# What products of float32 differ by where they are summed in another order.
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def python() -> Path:
    return Toolchains().ensure("gguf", NullReporter()).python


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Path:
    """Two layers of width 64 in several files."""
    folder = tmp_path_factory.mktemp("models") / "Tiny-Llama-3M"
    script = SUPPORT / "make_tiny_llama.py"
    environment = clean_environment({"OMP_NUM_THREADS": "1"})
    subprocess.run([python, script, folder, smollm2()], check=True, env=environment)
    return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageRunner]:
    cache = fresh_cache(tmp_path_factory.mktemp("cache") / "cache")
    with StageRunner(Toolchains(cache), cache, NullReporter(), threads=1) as runner:
        yield runner


def merged_by(stages: StageRunner, model: Path, adapter: Path) -> Path:
    options = {"adapter": (str(adapter),), "merge-adapter": ("true",)}
    source = read_source(model, model.name, "")
    job = Job(source, load_profile("x86-64-cpu"), recipe_for("onnx", "fp32"), options=options)
    return adapted(job, "gguf", stages).source.folder


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"lora_alpha": 8},
    "rank-stabilised": {"lora_alpha": 8, "use_rslora": True},
    "own-alphas": {"lora_alpha": 8, "alpha_pattern": {"v_proj": 2, "layers.1.mlp.down_proj": 1}},
    "dora": {"lora_alpha": 8, "use_dora": True},
}


@pytest.fixture(scope="module")
def figures(
    tiny: Path, stages: StageRunner, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float]]:
    """What PEFT itself computes with each kind of adapter, beside the merged folder."""
    folder = tmp_path_factory.mktemp("adapters")
    pairs: list[Path] = []
    for kind, settings in KINDS.items():
        adapter = make_adapter(folder / kind, tiny, **settings)
        if settings.get("use_dora"):
            add_magnitudes(adapter)
        pairs += [adapter, merged_by(stages, tiny, adapter)]
    script = SUPPORT / "torch_adapter.py"
    told = run([python, script, tiny, *pairs], PYTHONPATH=str(peft_folder()))
    return dict(zip(KINDS, json.loads(told), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_compute_as_peft_does(
    kind: str, figures: dict[str, dict[str, float]]
) -> None:
    told = figures[kind]
    assert told["difference"] < ROUNDING * told["largest"]
    assert told["effect"] > 0.1 * told["largest"]


def add_magnitudes(adapter: Path) -> None:
    """Give every pair lengths of its own, as DoRA trains them."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    generator = np.random.default_rng(5)
    for name in [name for name in tensors if name.endswith("lora_B.weight")]:
        lengths = generator.uniform(0.5, 2.0, tensors[name].shape[0]).astype(np.float32)
        tensors[name.replace("lora_B.weight", "lora_magnitude_vector")] = lengths
    save_file(tensors, path)


def test_what_is_not_changed_stays_bit_for_bit(
    tiny: Path, stages: StageRunner, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "one", tiny, modules=("layers.1.mlp.down_proj",))
    merged = merged_by(stages, tiny, adapter)
    names = [path.name for path in model_weights(tiny)]
    assert len(names) > 1
    assert [path.name for path in model_weights(merged)] == names
    changed = []
    for name in names:
        with safe_open(tiny / name, "numpy") as old, safe_open(merged / name, "numpy") as new:
            assert set(old.keys()) == set(new.keys())
            changed += [
                key
                for key in old.keys()  # noqa: SIM118
                if old.get_tensor(key).tobytes() != new.get_tensor(key).tobytes()
            ]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
