"""Chat templates: the model's own jinja2 template, rendered in jinja2's sandbox.

Written and read as transformers does it (`apply_chat_template`): the same globals, filters,
extensions and white space. A template may be hostile: what it loops, calls and grows is counted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.errors import SourceError, UnsupportedError, UsageError

from .chat_sandbox import Budget, MessagesRefusedError, TemplateRefusedError, sandboxed
from .pooling import read_json

Message = Mapping[str, Any]
TEMPLATE_FILE = "chat_template.jinja"
_MAX_TEMPLATE_BYTES = 1 << 20
_MAX_MESSAGES = 10_000
_EXHAUSTED = (RecursionError, MemoryError, OverflowError)
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


class ChatTemplate:
    """A model's chat template; UnsupportedError where the model has none.

    `source` is its text, `tokens` the special tokens that it finds by name.
    """

    def __init__(self, folder: Path) -> None:
        settings = _object(folder / "tokenizer_config.json")
        self.source = _source(folder, settings)
        self.tokens = _special_tokens({**_object(folder / "special_tokens_map.json"), **settings})
        self._budget, self._one_at_a_time = Budget(), threading.Lock()
        self._template = _compile(self.source, self._budget)

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Return the prompt's text, special tokens written out.

        Raises UsageError where the template or its form refuses the messages, SourceError where
        the template leaves the sandbox or its limits.
        """
        from jinja2.exceptions import SecurityError

        context = {
            **self.tokens,
            "messages": check_messages(messages),
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            with self._one_at_a_time:
                self._budget.start()
                return str(self._template.render(context))
        except MessagesRefusedError as error:
            raise UsageError(
                "The model's chat template refuses these messages", why=_words(error)
            ) from None
        except (SecurityError, TemplateRefusedError, *_EXHAUSTED) as error:
            raise _unusable(error) from None
        except Exception as error:  # noqa: BLE001  a template may raise whatever Python raises
            raise UsageError(
                "The model's chat template cannot render these messages", why=_words(error)
            ) from None


def asked(folder: Path, prompt: str, system: str | None = None) -> str | list[Message]:
    """Return a user's prompt as messages where the model has a chat template, else as it is.

    Raises UsageError where there is no template that could hold `system`.
    """
    if not has_template(folder):
        if system is not None:
            raise UsageError("This model has no chat template", why="so nothing holds --system")
        return prompt
    first = [{"role": "system", "content": system}] if system is not None else []
    return [*first, {"role": "user", "content": prompt}]


def has_template(folder: Path) -> bool:
    """Whether the model's files hold a chat template."""
    stated = _object(folder / "tokenizer_config.json").get("chat_template")
    return (folder / TEMPLATE_FILE).is_file() or bool(stated)


def _compile(source: str, budget: Budget) -> Any:
    environment = sandboxed(budget)
    import jinja2

    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError, ValueError, SyntaxError) as error:
        raise _unusable(error) from None


def check_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages as dictionaries; UsageError where they are no conversation."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise UsageError("A chat is a list of messages", why=f"got {type(messages).__name__}")
    given = list(messages)
    if not 0 < len(given) <= _MAX_MESSAGES:
        raise UsageError(f"A chat has 1 to {_MAX_MESSAGES} messages, not {len(given)}")
    for number, message in enumerate(given):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(f"Message {number} has no role")
        if not isinstance(message.get("content"), (str, list, tuple, type(None))):
            raise UsageError(f"Message {number} has a content that is no text")
    return [dict(message) for message in given]


def _source(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / TEMPLATE_FILE
    if path.is_file():
        try:
            data = path.read_bytes()[: _MAX_TEMPLATE_BYTES + 1]
            if len(data) > _MAX_TEMPLATE_BYTES:
                raise ValueError(f"larger than {_MAX_TEMPLATE_BYTES} bytes")
            return data.decode()
        except (OSError, ValueError) as error:
            raise SourceError(f"{path} cannot be read", why=str(error)) from None
    stated = settings.get("chat_template")
    if isinstance(stated, list):
        named = {t.get("name"): t.get("template") for t in stated if isinstance(t, dict)}
        stated = named.get("default")
    if not isinstance(stated, str):
        raise UnsupportedError(
            "This model has no chat template",
            why=f"neither {TEMPLATE_FILE} nor tokenizer_config.json holds one",
            next="give it a text instead of messages",
        )
    return stated


def _object(path: Path) -> dict[str, Any]:
    document = read_json(path) if path.is_file() else {}
    return document if isinstance(document, dict) else {}


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _SPECIAL:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            found[name] = token
    return found


def _unusable(error: BaseException) -> SourceError:
    return SourceError("The model's chat template cannot be used", why=_words(error))


def _words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
