"""Chat templates of the shapes that are around, for tests: name, source, settings, what to expect.

`form` tells whether a fixed form can say the same: some depend on more than whose text it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgeward.runtimes.tasks.chat import ChatTemplate

_EACH = "{% for m in messages %}"
_END = "{% endfor %}"


@dataclass(frozen=True, slots=True)
class Case:
    """A template; `default` is the system message that it writes by itself."""

    source: str
    form: bool = True
    default: str = ""
    takes_system: bool = True
    bos: str = "<s>"


CHATML = (
    _EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n" + _END
    + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip
CASES = {
    "chatml": Case(CHATML),
    "chatml-default": Case(
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou \"help\".<|im_end|>\n"
        "{% endif %}" + CHATML,
        default='You "help".',
    ),
    "llama3": Case(
        "{{ bos_token }}" + _EACH + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content | trim }}<|eot_id|>" + _END + "{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        bos="<|begin_of_text|>",
    ),
    "llama2": Case(
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
        "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}"
        "{% endif %}{% for m in rest %}{% if m.role == 'user' %}{{ bos_token }}[INST] "
        "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}"
        "{{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}" + _END
    ),
    "gemma": Case(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ bos_token }}" + _EACH + "<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        + _END + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        takes_system=False,
        bos="<bos>",
    ),
    "braces": Case(
        _EACH + "{{ '{{' }}{{ m.role }}{{ '}}' }}\u200d{{ m.content }}{{ '{' }}" + _END
        + "{% if add_generation_prompt %}{{ '{{assistant}}\u200d' }}{% endif %}"
    ),
    "zephyr": Case(
        _EACH + "<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n" + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "counted": Case(_EACH + "{{ loop.index }}. {{ m.role }}: {{ m.content }}\n" + _END, form=False),
    "shouting": Case(_EACH + "{{ m.role }}: {{ m.content | upper }}\n" + _END, form=False),
    "by-length": Case(
        _EACH + "{{ m.role }}{{ '!' if m.content | length > 60 else ':' }} {{ m.content }}\n"
        + _END,
        form=False,
    ),
    "one-turn": Case(
        "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}"
        "{{ messages[0].content }}",
        form=False,
    ),
}  # fmt: skip


def template_of(case: Case, folder: Path) -> ChatTemplate:
    """Write a template into a model's folder and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"chat_template": case.source, "bos_token": case.bos, "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return ChatTemplate(folder)
