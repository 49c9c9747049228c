"""A chat template in the template language of Go, as Ollama reads it, and the proof of it.

The Jinja template is not translated line by line: it is asked what it writes around the texts of a
few conversations. What comes of it is a fixed form with the pieces found, which has to render
conversations that it was not made from as the original does, or there is no template at all.

The form is for Ollama's values: `.System` (all system messages joined) and `.Messages`, each with
`.Role` and `.Content`; see https://docs.ollama.com/modelfile and https://pkg.go.dev/text/template.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edgeward.errors import EdgewardError

Message = Mapping[str, str]
_MARKS = ("Zq1 first mark", "Zq2 second mark", "Zq3 third mark")
_SYSTEM = "Zq0 system mark"
_TEXTS = (
    "What is 12 * 34?",
    'Print {{ .Role }} and {% raw %} with "quotes" and `ticks`:\n\n    x = {"a": 1}',
    "東京タワーは何メートルですか。 ½ ≠ 🙂",
    "<b>&amp;</b> C:\\temp\\n",
    "ok",
)


class Renders(Protocol):
    """Renders a conversation; ChatTemplate is one."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the prompt's text."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What stands around the texts of a conversation.

    `opening` begins one without a system message, `system` stands around the text of one that has
    it, None where the original takes none. The first user's text comes behind either, with what is
    before a user's text in it unless `user_first` is empty. `answer` asks for the assistant's turn.
    """

    opening: str
    system: tuple[str, str] | None
    user_first: str
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str
    default_system: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt as the form in Go renders it, for a conversation that a user ends."""
        systems = [m["content"] for m in messages if m["role"] == "system"]
        found, first = self.opening, True
        if systems and self.system is not None:
            found = self.system[0] + "\n\n".join(systems) + self.system[1]
        for message in messages:
            if message["role"] == "user":
                before = self.user_first if first else self.user[0]
                found, first = found + before + message["content"] + self.user[1], False
            elif message["role"] == "assistant":
                found += message["content"].join(self.assistant)
        return found + self.answer

    def go(self) -> str:
        """Return the form as a template of Go; an assistant's last turn is left open."""
        opening = _literal(self.opening)
        if self.system is not None:
            before, after = (_literal(part) for part in self.system)
            opening = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{after}"
            opening += f"{{{{ else }}}}{_literal(self.opening)}{{{{ end }}}}"
        user, declared = _literal(self.user[0]), ""
        if self.user_first != self.user[0]:
            declared = "{{ $first := true }}"
            user = (
                f"{{{{ if $first }}}}{_literal(self.user_first)}{{{{ else }}}}{user}{{{{ end }}}}"
            )
            user += "{{ $first = false }}"
        return (
            f"{opening}{declared}{{{{ range $i, $_ := .Messages }}}}"
            "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            f'{{{{ if eq .Role "user" }}}}{user}{{{{ .Content }}}}{_literal(self.user[1])}'
            f"{{{{ if $last }}}}{_literal(self.answer)}{{{{ end }}}}"
            f'{{{{ else if eq .Role "assistant" }}}}{_literal(self.assistant[0])}{{{{ .Content }}}}'
            f"{{{{ if not $last }}}}{_literal(self.assistant[1])}{{{{ end }}}}"
            "{{ end }}{{ end }}"
        )


@dataclass(frozen=True, slots=True)
class Translated:
    """The form where it was proved; else None, and why there is none."""

    turns: Turns | None
    why: str = ""


def translate(original: Renders, leading: str = "") -> Translated:
    """Find the form of a chat template and prove it on other conversations.

    `leading` is what the tokenizer puts before a prompt by itself (its token of the beginning): a
    template that writes it too is proved with it and leaves it out.
    """
    try:
        turns = _found(original)
        different = turns is not None and _different(original, turns)
    except EdgewardError as error:
        return Translated(None, f"the original refuses a plain conversation: {error.why}"[:300])
    if turns is None:
        return Translated(
            None, "what it writes around a text depends on more than whose text it is"
        )
    if different:
        return Translated(None, f"it renders differently: {different}")
    return Translated(_without(turns, leading))


def is_printable(text: str) -> bool:
    """Tell whether Ollama keeps every character of a text in a Modelfile."""
    return all(c in " \t\n\r" or unicodedata.category(c)[0] in "LMNPS" for c in text)


def _found(original: Renders) -> Turns | None:
    """Ask what the original writes around marks; None where they do not come in their order."""
    one, two, three = _MARKS
    talk = [_said("user", one), _said("assistant", two), _said("user", three)]
    alone = original.render(talk[:1], add_generation_prompt=False)
    asked = original.render(talk[:1], add_generation_prompt=True)
    around_one = _around(alone, one)
    around_all = _around(original.render(talk, add_generation_prompt=False), *_MARKS)
    ends = _around(original.render(talk[:2], add_generation_prompt=False), one, two)
    if around_one is None or around_all is None or ends is None or not asked.startswith(alone):
        return None
    (opening, after_user), after_assistant = around_one, ends[-1]
    first, between, again, last = around_all
    fits = between.startswith(after_user) and again.startswith(after_assistant)
    if (first, last) != (opening, after_user) or not fits:
        return None
    before_user = again[len(after_assistant) :]
    return _arranged(
        opening,
        _system(original, one, after_user),
        user=(before_user, after_user),
        assistant=(between[len(after_user) :], after_assistant),
        answer=asked[len(alone) :],
    )


def _arranged(
    opening: str,
    system: tuple[str, str] | None,
    user: tuple[str, str],
    assistant: tuple[str, str],
    answer: str,
) -> Turns:
    """Take what is before every user's text out of what begins a conversation, where it can be."""
    default = ""
    if system is not None and opening.startswith(system[0]) and opening.endswith(system[1]):
        default = opening[len(system[0]) : len(opening) - len(system[1])]
    first = user[0]
    openings = [opening] if system is None else [opening, system[1]]
    if not all(each.endswith(first) for each in openings):
        first = ""
    opening = opening.removesuffix(first)
    system = system and (system[0], system[1].removesuffix(first))
    return Turns(opening, system, first, user, assistant, answer, default)


def _system(original: Renders, text: str, after_user: str) -> tuple[str, str] | None:
    messages = [_said("system", _SYSTEM), _said("user", text)]
    try:
        rendered = original.render(messages, add_generation_prompt=False)
    except EdgewardError:
        return None
    around = _around(rendered, _SYSTEM, text)
    return None if around is None or around[2] != after_user else (around[0], around[1])


def _around(text: str, *marks: str) -> list[str] | None:
    """Return what stands before, between and behind marks, each there once and in this order."""
    pieces = []
    for mark in marks:
        if text.count(mark) != 1:
            return None
        before, _, text = text.partition(mark)
        pieces.append(before)
    return [*pieces, text]


def _different(original: Renders, turns: Turns) -> str:
    """Return in words the first conversation that the form renders otherwise; else nothing."""
    for messages in _conversations(with_system=turns.system is not None):
        wanted = original.render(messages, add_generation_prompt=True)
        if turns.render(messages) != wanted:
            roles = ", ".join(message["role"] for message in messages)
            return f"a conversation of {roles}"
    return ""


def _conversations(*, with_system: bool) -> list[list[Message]]:
    found = []
    for first in range(len(_TEXTS)):
        texts = _TEXTS[first:] + _TEXTS[:first]
        for length in (1, 3, 5):
            roles = ("user", "assistant") * 3
            talk = [_said(role, text) for role, text in zip(roles, texts[:length], strict=False)]
            found.append(talk)
            if with_system:
                found.append([_said("system", texts[-1]), *talk])
    return found


def _without(turns: Turns, leading: str) -> Turns:
    """Leave out the token of the beginning that the tokenizer adds by itself."""
    opening, system, first = turns.opening, turns.system, turns.user_first
    if not opening and leading and first.startswith(leading):
        opening, first = first, ""
        system = system and (system[0], system[1] + opening)
    return replace(
        turns,
        opening=opening.removeprefix(leading),
        system=system and (system[0].removeprefix(leading), system[1]),
        user_first=first,
    )


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _literal(text: str) -> str:
    """Return a text as it stands in a template of Go inside a Modelfile."""
    plain = "{{" not in text and not text.endswith("{") and '"' * 3 not in text
    if not text or (plain and is_printable(text)):
        return text
    return f'{{{{ "{"".join(_escaped(character) for character in text)}" }}}}'


def _escaped(character: str) -> str:
    if character.isascii() and (character.isalnum() or character in " .,:;<>|/_-[]()#=*+!?'{}"):
        return character
    return f"\\U{ord(character):08x}"
