"""What lies beside a GGUF: the Modelfile and its template, Jan's description, names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_templates import CASES, template_of
from modelfile import read_modelfile
from safetensors.numpy import save_file
from split_gguf import BOOL, METADATA, write_gguf
from tokenizers import AddedToken, Tokenizer, models

from edgeward.compiler.formats.gguf_ecosystem import base_name, ecosystem_stage, file_stem, write
from edgeward.compiler.formats.gguf_modelfile import Modelfile, fits, legible, parameters
from edgeward.compiler.formats.gguf_modelfile_template import translate
from edgeward.compiler.source import Source, read_source
from edgeward.compiler.stage_context import StageContext
from edgeward.compiler.stages import StageInput
from edgeward.errors import SourceError

# The expression of the GGUF specification for names, its parts without a version.
NAME = re.compile(r"[A-Za-z0-9.-]+-\d+(?:\.\d+)?[KMB]-[A-Za-z0-9]+-(?:F16|F32|BF16|I?Q\d_\w+)")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is {{ .Gate }}?"},
    {"role": "assistant", "content": "There."},
    {"role": "user", "content": "And now?"},
]


@pytest.mark.parametrize("name", CASES)
def test_a_template_is_found_where_a_fixed_form_says_the_same(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    original = template_of(case, tmp_path)
    translated = translate(original)
    assert (translated.turns is not None) is case.form
    assert bool(translated.why) is not case.form
    if translated.turns is None:
        return
    assert translated.turns.default_system == case.default
    talk = TALK if case.takes_system else TALK[1:]
    assert (translated.turns.system is not None) is case.takes_system
    assert translated.turns.render(talk) == original.render(talk, add_generation_prompt=True)


def test_the_token_of_the_beginning_is_left_to_the_tokenizer(tmp_path: Path) -> None:
    for name in ("llama3", "llama2", "gemma"):
        case = CASES[name]
        original = template_of(case, tmp_path / name)
        turns = translate(original, case.bos).turns
        assert turns is not None
        assert not turns.go().startswith(case.bos)
        talk = TALK if case.takes_system else TALK[1:]
        rendered = original.render(talk, add_generation_prompt=True)
        assert case.bos + turns.render(talk) == rendered
        assert case.bos + turns.render(TALK[1:]) == original.render(
            TALK[1:], add_generation_prompt=True
        )


def test_a_modelfile_is_what_ollamas_grammar_reads() -> None:
    text = Modelfile(
        "A-1B-Q4_0.gguf",
        (("stop", "<|im_end|>"), ("stop", "\nUser:"), ("temperature", "0.7"), ("num_ctx", "8192")),
        template='{{ .System }}\n"{{ range .Messages }}"{{ .Content }}{{ end }}',
        system=" Be brief. ",
        licence="Apache License\n\n  1. x",
        adapter="A-1B-tone-F32-LoRA.gguf",
        comment="Join it first:\nso",
    ).text()
    assert read_modelfile(text) == {
        "FROM": ["./A-1B-Q4_0.gguf"],
        "ADAPTER": ["./A-1B-tone-F32-LoRA.gguf"],
        "TEMPLATE": ['{{ .System }}\n"{{ range .Messages }}"{{ .Content }}{{ end }}'],
        "stop": ["<|im_end|>", "\nUser:"],
        "temperature": ["0.7"],
        "num_ctx": ["8192"],
        "SYSTEM": [" Be brief. "],
        "LICENSE": ["Apache License\n\n  1. x"],
    }


@pytest.mark.parametrize("text", ['a """ b', 'ends with "', "zero\u200dwidth", "bell\x07"])
def test_what_a_modelfile_cannot_hold_is_known(text: str) -> None:
    assert not fits(text)
    assert fits(legible(text))


def write_model(folder: Path, **generation: Any) -> Source:
    """A model's folder as far as the stage reads it."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_special_tokens([AddedToken(t) for t in ("<s>", "</s>", "<|end|>", 'q"""')])
    tokenizer.save(str(folder / "tokenizer.json"))
    template_of(CASES["chatml-default"], folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 131072}))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    save_file({"x": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return read_source(folder, "somebody/Tiny-Talk-1.5B-Instruct", "")


def run_stage(source: Source, out: Path, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the stage in this process; return what it says and the files that it wrote."""
    gguf = write_gguf(out.with_suffix(".gguf"), more.pop("metadata", METADATA))
    stem = file_stem(source, "q4_k_m")
    assets = StageInput(source.folder, "b")
    spec = ecosystem_stage(source, stem, StageInput(gguf, "a"), assets, **more)
    out.mkdir()
    inputs = {name: given.path for name, given in spec.inputs.items()}
    told = write(StageContext(inputs, out), spec.params)
    return told, {path.name: path.read_text() for path in out.iterdir()}


def test_the_stage_writes_what_the_models_files_say(tmp_path: Path) -> None:
    source = write_model(
        tmp_path / "model",
        eos_token_id=[2, 1, 3, 99],
        do_sample=True,
        temperature=0.7,
        top_p=0.95,
        top_k=40,
        repetition_penalty=1.1,
    )
    (source.folder / "LICENSE").write_text('Do as you "like"\x0c\n')
    told, files = run_stage(source, tmp_path / "out")
    assert told["template"] == "proved"
    assert set(files) == {"Modelfile", "model.yml", "LICENSE"}
    said = read_modelfile(files["Modelfile"])
    assert said["FROM"] == ["./Tiny-Talk-1.5B-Instruct-Q4_K_M.gguf"]
    assert said["stop"] == ["<|end|>", "</s>"]
    assert {name: said[name][0] for name in ("temperature", "top_p", "top_k")} == {
        "temperature": "0.7",
        "top_p": "0.95",
        "top_k": "40",
    }
    assert (said["repeat_penalty"], said["num_ctx"]) == (["1.1"], ["8192"])
    assert said["LICENSE"] == ['Do as you "like']
    assert said["SYSTEM"] == ['You "help".']
    assert 'You "help".<|im_end|>' in said["TEMPLATE"][0]
    place = "llamacpp/models/Tiny-Talk-1.5B-Instruct-Q4_K_M/Tiny-Talk-1.5B-Instruct-Q4_K_M.gguf"
    assert f'model_path: "{place}"' in files["model.yml"]
    assert str(tmp_path) not in "".join(files.values())


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    assert run_stage(source, tmp_path / "a")[1] == run_stage(source, tmp_path / "b")[1]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.9}, {"temperature": ["0"]}),
        ({"temperature": float("nan"), "top_k": True, "top_p": "0.9"}, {}),
        ({"eos_token_id": "many", "stop_strings": ["\nUser:", 7, 'a"""']}, {"stop": ["\nUser:"]}),
        ({"eos_token_id": [[1]], "top_k": -1}, {}),
    ],
)
def test_hostile_settings_say_nothing(
    settings: dict[str, Any], wanted: dict[str, list[str]], tmp_path: Path
) -> None:
    source = write_model(tmp_path / "model", **settings)
    said: dict[str, list[str]] = {}
    for name, value in parameters(source.folder, generates=True):
        said.setdefault(name, []).append(value)
    said.pop("num_ctx")
    assert said == {**({"stop": ["</s>"]} if "eos_token_id" not in settings else {}), **wanted}


def test_what_is_left_out_is_said_in_words(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    template_of(replace(CASES["chatml"], source="{{ strftime_now('%d') }}"), source.folder)
    told, files = run_stage(source, tmp_path / "dated")
    assert told["template"] == "left out"
    assert "writes the day" in told["notes"][0]
    assert "TEMPLATE" not in read_modelfile(files["Modelfile"])
    template_of(CASES["counted"], source.folder)
    told, files = run_stage(source, tmp_path / "counted")
    assert "TEMPLATE" not in read_modelfile(files["Modelfile"])
    template_of(CASES["gemma"], source.folder)
    told, _ = run_stage(source, tmp_path / "gemma")
    assert any("the original refuses them" in note for note in told["notes"])
    parts = [f"Tiny-0000{n}-of-00002.gguf" for n in (1, 2)]
    told, files = run_stage(source, tmp_path / "parts", parts=parts)
    assert "--merge Tiny-00001-of-00002.gguf" in files["Modelfile"]
    assert read_modelfile(files["Modelfile"])["FROM"] == ["./Tiny-Talk-1.5B-Instruct-Q4_K_M.gguf"]
    assert any("no split model" in note for note in told["notes"])


def test_a_tokenizer_that_adds_its_beginning_gets_a_template_without(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    template_of(CASES["zephyr"], source.folder)
    template_of(replace(CASES["llama3"], bos="<s>"), source.folder)
    adds = {**METADATA, "tokenizer.ggml.add_bos_token": (BOOL, True)}
    _, alone = run_stage(source, tmp_path / "adds", metadata=adds)
    _, written = run_stage(source, tmp_path / "not")
    assert read_modelfile(alone["Modelfile"])["TEMPLATE"][0].startswith("{{ if .System }}<|start")
    assert read_modelfile(written["Modelfile"])["TEMPLATE"][0].startswith("{{ if .System }}<s><|")


def test_a_licence_from_outside_is_not_shipped(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    (tmp_path / "secret").write_text("secret")
    (source.folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceError, match="leads out"):
        run_stage(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("precision", "encoding"), [("q4_k_m", "Q4_K_M"), ("fp16", "F16"), ("iq4_xs", "IQ4_XS")]
)
def test_names_are_those_of_the_convention(precision: str, encoding: str, tmp_path: Path) -> None:
    source = write_model(tmp_path / "model")
    assert file_stem(source, precision) == f"Tiny-Talk-1.5B-Instruct-{encoding}"
    assert NAME.fullmatch(file_stem(source, precision))
    assert base_name(replace(source, id="a/b c;rm -rf ~")) == "b-c-rm-rf"
    assert base_name(replace(source, id="..")) == "model"
