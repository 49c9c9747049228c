"""Conversion: byte for byte the file of llama.cpp's own script, in little memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fresh_cache import fresh_cache
from job_maker import JobMaker
from llama_tools import bare_convert

from edgeward.compiler.compile import CompileRequest, stage_runner
from edgeward.compiler.formats.gguf import convert_stage, quantise_stage
from edgeward.compiler.formats.gguf_view import link_view, stored_type
from edgeward.compiler.progress import NullReporter
from edgeward.compiler.stages import StageRunner
from edgeward.errors import SourceError, UnsupportedError

SLOW = [pytest.mark.slow, pytest.mark.timeout(900)]
KINDS = {
    "bert": "f32",
    "gpt2": "f16",
    "granite": "f32",
    "llama": "bf16",
    "mixtral": "f16",
    "olmo2": "f32",
    "smollm3": "bf16",
    "qwen3_moe": "f16",
    "starcoder2": "f32",
}
PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


@pytest.fixture(scope="module")
def bare(
    models: dict[str, Path], smol: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What the script makes of every tiny model, and of the real one."""
    folder = tmp_path_factory.mktemp("bare")
    files = {name: folder / f"{name}.gguf" for name in (*KINDS, "smollm2")}
    wanted = {models[name]: (files[name], kind) for name, kind in KINDS.items()}
    bare_convert({**wanted, smol: (files["smollm2"], "f16")})
    return files


@pytest.mark.parametrize("name", sorted(KINDS))
class TestTiny:
    pytestmark = SLOW

    def test_the_file_is_the_scripts(
        self,
        name: str,
        runner: StageRunner,
        models: dict[str, Path],
        bare: dict[str, Path],
        job_of: JobMaker,
    ) -> None:
        job = job_of(models[name], PRECISIONS[KINDS[name]])
        made = runner.run(convert_stage(job))
        assert (made.path / "model.gguf").read_bytes() == bare[name].read_bytes()
        inputs = [one["name"] for one in made.data["inputs"]]
        output = made.data["outputs"][0]
        if name == "bert":
            assert (inputs, output["shape"][-1]) == (["input_ids", "attention_mask"], 64)
        else:
            assert (inputs, output["shape"][-1]) == (["input_ids"], 49152)


class TestReal:
    pytestmark = SLOW

    def test_the_file_is_the_scripts_wherever_the_model_lies(
        self,
        runner: StageRunner,
        bare: dict[str, Path],
        smol: Path,
        job_of: JobMaker,
        tmp_path: Path,
    ) -> None:
        elsewhere = tmp_path / "a folder of mine" / smol.name
        shutil.copytree(smol, elsewhere, symlinks=True, copy_function=_link)
        made = runner.run(convert_stage(job_of(elsewhere, "fp16")))
        content = (made.path / "model.gguf").read_bytes()
        assert content == bare["smollm2"].read_bytes()
        assert b"a folder of mine" not in content
        assert made.data["tokenizer"] == "gpt2 smollm"

    def test_an_unknown_tokenizer_is_refused(
        self, runner: StageRunner, models: dict[str, Path], job_of: JobMaker
    ) -> None:
        with pytest.raises(UnsupportedError, match="does not know this model's tokenizer"):
            runner.run(convert_stage(job_of(models["unknown"], "fp16")))

    def test_code_of_a_tokenizer_is_never_run(
        self, runner: StageRunner, models: dict[str, Path], job_of: JobMaker, tmp_path: Path
    ) -> None:
        folder = tmp_path / "llama"
        shutil.copytree(models["llama"], folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["auto_map"] = {"AutoTokenizer": ["own.Own", "own.Own"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "own.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
        made = runner.run(convert_stage(job_of(folder, "fp16")))
        assert made.data["tokenizer"] == "gpt2 smollm"
        assert not (tmp_path / "run").exists()


@pytest.fixture
def alone(models: dict[str, Path], tmp_path: Path) -> Iterator[StageRunner]:
    """A worker that has done nothing yet: its peak is of its whole life."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWARD_CACHE", str(fresh_cache(tmp_path / "cache")))
        with stage_runner(CompileRequest("", (), tmp_path), NullReporter()) as stages:
            yield stages


@pytest.mark.slow
def test_a_sharded_model_is_never_whole_in_memory(
    alone: StageRunner, models: dict[str, Path], job_of: JobMaker
) -> None:
    folder = models["sharded"]
    shards = sorted(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert len(shards) > 2
    idle = alone.run(convert_stage(job_of(models["llama"], "bf16"))).peak_memory_bytes
    job = job_of(folder, "q4_0")
    made = alone.run(convert_stage(job))
    assert made.data["floats"] == "bf16"
    assert made.peak_memory_bytes - idle <= 1.5 * shards[-1]
    assert (made.path / "model.gguf").stat().st_size > 0.99 * sum(shards)
    rounded = alone.run(quantise_stage(job, made.as_input("model.gguf"), None))
    assert rounded.peak_memory_bytes <= 1.5 * shards[-1]


def _link(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        Path(target).symlink_to(Path(source).resolve())
    else:
        shutil.copyfile(source, target)


def _weights(folder: Path, name: str, **types: str) -> None:
    tensors = {
        key: {"dtype": kind, "shape": [2, 2], "data_offsets": [0, 16]}
        for key, kind in types.items()
    }
    tensors["norm"] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))


@pytest.mark.parametrize(
    ("types", "stored"),
    [
        ({"a": "BF16", "b": "BF16"}, "bf16"),
        ({"a": "F16"}, "f16"),
        ({"a": "F32"}, "f32"),
        ({"a": "BF16", "b": "F16"}, "f32"),
        ({"a": "BF16", "b": "F32"}, "f32"),
        ({"a": "F8_E4M3"}, "f32"),
    ],
)
def test_weights_keep_the_type_that_holds_them(
    tmp_path: Path, types: dict[str, str], stored: str
) -> None:
    _weights(tmp_path, "model.safetensors", **types)
    assert stored_type(tmp_path) == stored


def test_the_converter_is_shown_what_was_checked_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    _weights(folder, "model.safetensors", a="F32")
    _weights(folder, "model-old.safetensors", a="F16")
    for name in ("config.json", "evil.py", "README.md", "other.json"):
        (folder / name).write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    link_view(folder, tmp_path / "view", ["config.json"], {"README.md": digest})
    shown = sorted(path.name for path in (tmp_path / "view").iterdir())
    assert shown == ["README.md", "config.json", "model.safetensors"]
    (folder / "README.md").write_text("another")
    with pytest.raises(SourceError, match="was changed while it was read"):
        link_view(folder, tmp_path / "again", ["config.json"], {"README.md": digest})


def test_all_shards_are_read(tmp_path: Path) -> None:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    _weights(tmp_path, names["a"], a="BF16")
    _weights(tmp_path, names["b"], b="F16")
    index = {"weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored_type(tmp_path) == "f32"
    link_view(tmp_path, tmp_path / "view", [], {})
    assert {path.name for path in (tmp_path / "view").iterdir()} == {
        *names.values(),
        "model.safetensors.index.json",
    }


def test_code_that_a_tokenizer_names_is_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    _weights(folder, "model.safetensors", a="F32")
    settings = {"eos_token": "x", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    link_view(folder, tmp_path / "view", ["tokenizer_config.json"], {})
    shown = json.loads((tmp_path / "view" / "tokenizer_config.json").read_text())
    assert shown == {"eos_token": "x"}
    assert json.loads((folder / "tokenizer_config.json").read_text()) == settings
