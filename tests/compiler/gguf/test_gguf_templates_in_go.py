"""Modelfile templates in Go's own text/template, as Ollama runs them, against the originals."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CASES, template_of
from documents import ROOT
from gguf_peers import go_program, node_room, run
from modelfile import read_modelfile
from smollm2 import smollm2

from edgeward.compiler.formats.gguf_modelfile import Modelfile
from edgeward.compiler.formats.gguf_modelfile_template import translate
from edgeward.runtimes.tasks.chat import ChatTemplate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SYSTEM = {"role": "system", "content": 'Say "{{ .Content }}"\nand no more.'}
TALKS = [
    [{"role": "user", "content": "Where?"}],
    [
        {"role": "user", "content": "`{{ x }}` \\n \u00a0é 🙂"},
        {"role": "assistant", "content": "<b>&amp;</b>"},
        {"role": "user", "content": "And {% now %}?\n\nSo?"},
    ],
]


def rendered(cases: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """Return what Go writes for templates with conversations."""
    lines = [
        json.dumps(
            {
                "Template": template,
                "Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages],
            }
        )
        for template, messages in cases
    ]
    done = subprocess.run(
        [go_program(ROOT / "tests" / "support" / "go_templates.go")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_a_modelfile(template: str) -> str:
    """Return a template as it comes out of a Modelfile again."""
    return read_modelfile(Modelfile("a.gguf", template=template).text())["TEMPLATE"][0]


def test_go_renders_what_the_original_renders(tmp_path: Path) -> None:
    cases, wanted = [], []
    for name, case in CASES.items():
        original = template_of(case, tmp_path / name)
        for leading in ("", case.bos):
            turns = translate(original, leading).turns
            if turns is None:
                assert not case.form
                continue
            template = in_a_modelfile(turns.go())
            for talk in [*TALKS, *([SYSTEM, *talk] for talk in TALKS if case.takes_system)]:
                cases.append((template, talk))
                text = original.render(talk, add_generation_prompt=True)
                wanted.append(text.removeprefix(leading))
    assert len(cases) > 40
    assert rendered(cases) == wanted


def test_an_assistants_last_turn_is_left_open(tmp_path: Path) -> None:
    turns = translate(template_of(CASES["chatml"], tmp_path)).turns
    assert turns is not None
    talk = [*TALKS[0], {"role": "assistant", "content": "Over the"}]
    (text,) = rendered([(turns.go(), talk)])
    assert text == "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\nOver the"


def test_it_is_the_template_that_the_hub_gives_ollama() -> None:
    """The hub converts templates for Ollama by a table: the same prompts for a model in it."""
    original = ChatTemplate(smollm2())
    turns = translate(original).turns
    assert turns is not None
    source = json.dumps((smollm2() / "chat_template.jinja").read_text())
    room = node_room("huggingface-js")
    script = room / "convert.mjs"
    script.write_text(
        'import {convertGGUFTemplateToOllama} from "@huggingface/ollama-utils";\n'
        f"const found = convertGGUFTemplateToOllama({{chat_template: {source}}});\n"
        "console.log(JSON.stringify(found.ollama.template));\n"
    )
    theirs = json.loads(run(["node", script]))
    talks = [[SYSTEM, *talk] for talk in TALKS]
    ours = rendered([(turns.go(), talk) for talk in talks])
    assert ours == rendered([(theirs, talk) for talk in talks])
    assert ours == [original.render(talk, add_generation_prompt=True) for talk in talks]
