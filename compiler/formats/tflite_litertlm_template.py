"""A chat template as LiteRT-LM renders it, with minijinja.

Its conversations give a message's content as a list of typed parts, which a template for texts
would write out as JSON; it has no special tokens by name, and no `get` (litert-lm-api 0.18.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# A tag of transformers alone, which marks what a model is trained on.
_MARKED = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
_GOT = re.compile(r"""\.get\(\s*('[^']+'|"[^"]+")\s*\)""")
_FLATTENED = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set said = namespace(text='', whole=true) -%}
{%- if message['content'] is string or message['content'] is not sequence -%}
{%- set said.whole = false -%}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set said.text = said.text + part['text'] -%}
{%- else -%}
{%- set said.whole = false -%}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- if said.whole -%}
{%- set flat.messages = flat.messages + [dict(message, content=said.text)] -%}
{%- else -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""


def adapted_template(source: str, tokens: Mapping[str, str]) -> str:
    """Return a template that gives for parts of text what `source` gives for the text.

    `tokens` are the special tokens that it finds by name.
    """
    named = "".join(
        f"{{%- set {name} = {json.dumps(token)} -%}}\n" for name, token in sorted(tokens.items())
    )
    return named + _FLATTENED + _GOT.sub(r"[\1]", _MARKED.sub(_plain_tag, source))


def _plain_tag(tag: re.Match[str]) -> str:
    before, end, after = tag.groups()
    return f"{{%{before} {'endif' if end else 'if true'} {after}%}}"
