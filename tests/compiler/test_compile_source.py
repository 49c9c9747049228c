"""Model folders and hub ids, good and hostile: answered before anything heavy is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_folder import write_model
from safetensors.numpy import save_file

from edgeward.compiler.compile import CompileRequest, plan_bundles
from edgeward.compiler.source import open_source
from edgeward.errors import EdgewardError, SourceError, UnsupportedError, UsageError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def test_a_folder_is_named_by_its_content(model: Path, tmp_path: Path) -> None:
    source = open_source(str(model))
    assert (source.architecture, source.task) == ("BertModel", "feature-extraction")
    assert source.weight_bytes == (model / "model.safetensors").stat().st_size
    twin = open_source(str(write_model(tmp_path / "elsewhere" / "model")))
    assert twin.digest == source.digest
    save_file({"w": np.zeros((4, 4), np.float32)}, model / "model.safetensors")
    assert open_source(str(model)).digest != source.digest


def test_another_tokenizer_is_another_source(model: Path) -> None:
    before = open_source(str(model)).digest
    (model / "tokenizer.json").write_text('{"other": 1}')
    assert open_source(str(model)).digest != before


Spoil = Callable[[Path], object]


def write(name: str, data: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def index(mapping: object) -> Spoil:
    text = json.dumps({"weight_map": mapping}).encode()
    return write("model.safetensors.index.json", text)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def huge(folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove("config.json"), "no config.json"),
        (write("config.json", b"{"), "cannot be read"),
        (write("config.json", b"[]"), "not a JSON object"),
        (write("config.json", b"\xff\xfe{}"), "cannot be read"),
        (write("config.json", b'{"a":' * 100_000), "cannot be read"),
        (write("config.json", b'{"architectures": ["X"]}'), "model_type"),
        (huge, "larger than"),
        (remove("model.safetensors"), "no safetensors weights"),
        (pickled, "is a pickle"),
        (truncated, "not a whole safetensors"),
        (write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
        (write("model.safetensors", b"\xff" * 64), "not a whole safetensors"),
        (index({"w": "../../etc/passwd.safetensors"}), "outside the folder"),
        (index({}), "maps no weights"),
        (index({"w": "missing.safetensors"}), "not a whole safetensors"),
        (remove("tokenizer.json"), "no tokenizer"),
        (write("modules.json", b"{}"), "not a list of modules"),
    ],
)
def test_a_damaged_folder_is_told_in_words(model: Path, spoil: Spoil, words: str) -> None:
    spoil(model)
    with pytest.raises(SourceError) as caught:
        open_source(str(model))
    assert words in f"{caught.value} {caught.value.why}"


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "a/b/c", "..", "a b", "-x", "", "a\\b"])
def test_what_is_neither_a_folder_nor_a_hub_id(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError):
        open_source(name)


def test_an_unsupported_architecture_names_those_that_are(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", model_type="mamba", architectures=["MambaModel"])
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedError, match="MambaModel") as caught:
        open_source(str(folder))
    assert "modernbert" in caught.value.why


def test_code_in_a_model_is_never_run(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", auto_map={"AutoModel": "modeling.Mine"})
    with pytest.raises(UnsupportedError, match="own code"):
        open_source(str(folder))


def test_a_task_that_is_not_there(model: Path) -> None:
    with pytest.raises(UnsupportedError, match="juggling"):
        open_source(str(model), task="juggling")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_configuration_is_read_or_refused(model: Path, data: bytes) -> None:
    (model / "config.json").write_bytes(data)
    with pytest.raises(EdgewardError):
        open_source(str(model))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["architectures", "model_type", "auto_map", "hidden_size"]),
        st.none() | st.text(max_size=5) | st.lists(st.none() | st.integers()) | st.just("bert"),
    )
)
def test_any_fields_are_read_or_refused(model: Path, fields: dict[str, object]) -> None:
    (model / "config.json").write_text(json.dumps(fields))
    try:
        assert open_source(str(model)).model_type == "bert"
    except EdgewardError as error:
        assert error.what


def request(model: Path, **changes: object) -> CompileRequest:
    values: dict[str, object] = {"targets": ("kiosk-x86",), "output": model.parent, **changes}
    return CompileRequest(model=str(model), **values)  # type: ignore[arg-type]


def test_jobs_are_planned_once_each(model: Path) -> None:
    targets = ("kiosk-x86", "jetson-orin-nano", "kiosk-x86")
    _, plans = plan_bundles(request(model, targets=targets, precisions=("fp32", "int8-dynamic")))
    assert [(job.profile.name, job.recipe.precision) for plan in plans for job in plan.jobs] == [
        ("kiosk-x86", "fp32"),
        ("kiosk-x86", "int8-dynamic"),
        ("jetson-orin-nano", "fp32"),
        ("jetson-orin-nano", "int8-dynamic"),
    ]


def test_the_default_precision_is_the_targets(model: Path) -> None:
    _, (plan,) = plan_bundles(request(model))
    (job,) = plan.jobs
    assert job.recipe.precision == job.profile.default.precision


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ("toaster",)},
        {"precisions": ("int3",)},
        {"format": "gif"},
        {"format": "gguf"},
        {"precisions": ("",)},
    ],
)
def test_what_cannot_be_made_is_told_before_work_begins(
    model: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(EdgewardError) as caught:
        plan_bundles(request(model, **changes))
    assert caught.value.exit_code == UsageError.exit_code
    assert caught.value.why
