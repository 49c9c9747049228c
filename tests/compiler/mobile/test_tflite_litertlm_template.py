"""Chat templates for LiteRT-LM say what the model's own say, and a text begins as the model's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from chat_templates import CASES, CHATML, Case, template_of

from edgeward.compiler.formats.tflite_litertlm import begin_token
from edgeward.compiler.formats.tflite_litertlm_template import adapted_template
from edgeward.errors import UsageError
from edgeward.runtimes.tasks.chat import ChatTemplate

CHAT = [
    {"role": "user", "content": "Where from?"},
    {"role": "assistant", "content": 'The "second" pier.'},
    {"role": "user", "content": "And when?"},
]


def typed(messages: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The messages as LiteRT-LM's conversations give them."""
    return [
        {**one, "content": [{"type": "text", "text": word} for word in _halves(one["content"])]}
        for one in messages
    ]


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def without_names(source: str, folder: Path) -> ChatTemplate:
    """A template that finds no special tokens, as in LiteRT-LM."""
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}))
    return ChatTemplate(folder)


@pytest.mark.parametrize("name", CASES)
def test_parts_of_text_are_written_as_the_text(name: str, tmp_path: Path) -> None:
    own = template_of(CASES[name], tmp_path / "own")
    other = without_names(adapted_template(own.source, own.tokens), tmp_path / "other")
    for messages in (CHAT, CHAT[:1]):
        try:
            wanted = own.render(messages)
        except UsageError:
            with pytest.raises(UsageError):
                other.render(typed(messages))
            continue
        assert other.render(typed(messages)) == other.render(messages) == wanted


def test_other_parts_and_no_content_stay_as_they_are(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ m.content | tojson }};{% endfor %}"
    other = without_names(adapted_template(source, {}), tmp_path / "other")
    picture = [{"type": "image"}, {"type": "text", "text": "x"}]
    said = [{"role": "user", "content": picture}, {"role": "assistant", "content": None}]
    assert other.render(said) == f"{json.dumps(picture)};null;"


def test_what_minijinja_lacks_is_written_otherwise() -> None:
    source = "{%- generation -%}{{ m.get('role') }}{{ m.get('a', 'b') }}{% endgeneration %}"
    made = adapted_template(source, {"bos_token": '<"s">'})
    assert made.endswith("{%- if true -%}{{ m['role'] }}{{ m.get('a', 'b') }}{% endif %}")
    assert made.startswith('{%- set bos_token = "<\\"s\\">" -%}')


@pytest.mark.parametrize(
    ("template", "begins", "found"),
    [
        (None, True, 1),
        (None, False, None),
        (CASES["llama3"].source, True, 1),
        # The tokenizer puts none there: the template alone writes it.
        (CASES["llama3"].source, False, None),
        # LiteRT-LM would put it before a chat, which has none.
        (CHATML, True, None),
        # The template's own letters are read as the token.
        ("<s>" + CHATML, True, None),
    ],
)
def test_a_text_begins_as_the_models_own(
    tmp_path: Path, template: str | None, begins: bool, found: int | None
) -> None:
    from tokenizers import Tokenizer, models, processors

    tokenizer = Tokenizer(models.WordLevel({"x": 0, "<s>": 1}, unk_token="x"))
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    own = None if template is None else template_of(Case(template), tmp_path)
    assert begin_token(tmp_path, own) == found
