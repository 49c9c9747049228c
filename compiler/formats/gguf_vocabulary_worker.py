"""The stage that asks llama.cpp: the tokenizer, chat template and stop tokens of a GGUF file.

Runs inside the toolchain that has llama.cpp, on the file's vocabulary alone.
"""

from __future__ import annotations

import ctypes
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import EngineError, ProofError
from edgeward.runtimes.bundle.gguf_header import GgufHeader
from edgeward.runtimes.engines.llama_checks import checked_header
from edgeward.runtimes.engines.llama_native import Model, library

from .gguf_vocabulary_original import FILE_NAME, TODAY
from .gguf_vocabulary_texts import WORDPIECE_LIMITS

_TEMPLATE = "tokenizer.chat_template"
_WORDPIECE = "bert"
_SHOWN_IDS, _SHOWN_TEXT, _MOST_FINDINGS = 24, 200, 6


class Compared(NamedTuple):
    """How many things are equal, and the first that is not, in words."""

    equal: int
    all: int
    finding: str

    @property
    def share(self) -> float:
        """The share that is equal, 1 where there is nothing to compare."""
        return self.equal / self.all if self.all else 1.0


def prove(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shares that are equal as metrics, and in words what departs first of each.

    Raises ProofError where llama.cpp does not take the vocabulary at all.
    """
    del params
    path = context.inputs["model"]
    original = json.loads((context.inputs["reference"] / FILE_NAME).read_text(encoding="utf-8"))
    vocabulary = _opened(path)
    compared = {
        "vocabulary_ids_equal": _counted(_ids(vocabulary, original)),
        "vocabulary_text_equal": _counted(_texts(vocabulary, original)),
        "chat_template_equal": _counted(_chats(vocabulary, original)),
        "stop_tokens_equal": _counted(_stops(vocabulary, original)),
    }
    metrics = {name: one.share for name, one in compared.items()}
    beyond = _counted(_ids(vocabulary, original, beyond=True))
    if beyond.all:
        metrics["vocabulary_limits_equal"] = beyond.share
    for name, value in metrics.items():
        context.metric(name, value)
    findings = [one.finding for one in compared.values() if one.finding][:_MOST_FINDINGS]
    words = "; ".join(findings) or "ids, texts, chat template and stop tokens are the original's"
    if beyond.finding:
        words += f"; not held to: {beyond.finding}"
    return {"metrics": metrics, "findings": findings, "summary": words}


class Vocabulary:
    """A GGUF file's tokenizer in llama.cpp."""

    def __init__(self, path: Path, header: GgufHeader) -> None:
        self._llama, self.header = library(), header
        self._model = Model(path, vocabulary_only=True)
        self.tokens = self._model.tokens
        self._handle = self._model.vocabulary

    def ids(self, text: str, *, special: bool) -> list[int]:
        """Return a text's token ids, special tokens in it read as such."""
        data = text.encode()
        room = len(data) + 16
        ids = (ctypes.c_int32 * room)()
        count = self._llama.llama_tokenize(self._handle, data, len(data), ids, room, special, True)
        return list(ids[: max(count, 0)])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens written out."""
        given = (ctypes.c_int32 * len(ids))(*ids)
        room = 64 + 16 * len(ids)
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._llama.llama_detokenize(
                self._handle, given, len(ids), buffer, room, False, True
            )
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", "replace")
            room = -count

    def piece(self, token: int) -> str:
        """Return what a token is called, empty for none."""
        if not 0 <= token < self.tokens:
            return ""
        return str(self._llama.llama_vocab_get_text(self._handle, token).decode("utf-8", "replace"))

    def told(self, name: str) -> Any:
        """Return what one of llama.cpp's functions says of the vocabulary, by its name's end."""
        return getattr(self._llama, f"llama_vocab_{name}")(self._handle)

    def ends(self, token: int) -> bool:
        """Whether llama.cpp stops at a token."""
        inside = 0 <= token < self.tokens
        return inside and bool(self._llama.llama_vocab_is_eog(self._handle, token))

    def chat(self, chat: Mapping[str, Any]) -> str:
        """Render messages by the file's own template, as llama-cpp-python does."""
        name = f".{chat['template']}" if chat["template"] else ""
        formats = importlib.import_module("llama_cpp.llama_chat_format")
        formatter = formats.Jinja2ChatFormatter(
            template=self.header.text(_TEMPLATE + name),
            eos_token=self.piece(self.told("eos")),
            bos_token=self.piece(self.told("bos")),
            add_generation_prompt=chat["add_generation_prompt"],
        )
        formatter.strftime_now = TODAY.strftime
        return str(formatter(messages=chat["messages"], tools=chat.get("tools")).prompt)


def _opened(path: Path) -> Vocabulary:
    try:
        return Vocabulary(path, checked_header(path))
    except EngineError as error:
        raise ProofError(
            f"llama.cpp does not take the tokenizer of {path.name}",
            why=f"{error.what}: {error.why}" if error.why else error.what,
            next="convert it by a version of the converter that knows this tokenizer",
        ) from None


def _counted(differences: Iterator[str]) -> Compared:
    """Count what is equal (empty words), and keep the first words of what is not."""
    equal = count = 0
    finding = ""
    for words in differences:
        count += 1
        equal += not words
        finding = finding or words
    return Compared(equal, count, finding)


def _is_beyond(vocabulary: Vocabulary, original: Mapping[str, Any], name: str) -> bool:
    """Whether a text is told of and not held to.

    No file makes llama.cpp's WordPiece read some as the original does; and nobody writes the name
    of a special token to a model that embeds.
    """
    if name in original["special"] and not original["generates"]:
        return True
    kind = vocabulary.header.text("tokenizer.ggml.model")
    return kind == _WORDPIECE and name in WORDPIECE_LIMITS


def _ids(
    vocabulary: Vocabulary, original: Mapping[str, Any], *, beyond: bool = False
) -> Iterator[str]:
    for case in original["texts"]:
        if _is_beyond(vocabulary, original, case["name"]) is not beyond:
            continue
        for wanted, special in ((case["ids"], False), (case["special_ids"], True)):
            found = vocabulary.ids(case["text"], special=special)
            how = "with" if special else "without"
            yield (
                ""
                if found == wanted
                else (
                    f"token ids of {case['name']} ({_shown(case['text'])}), {how} special tokens: "
                    f"{_ids_words(wanted, found)}"
                )
            )


def _texts(vocabulary: Vocabulary, original: Mapping[str, Any]) -> Iterator[str]:
    """An embedding model's tokens are never turned back into a text."""
    for case in original["texts"] if original["generates"] else []:
        found, wanted = vocabulary.text(case["ids"]), case["decoded"]
        yield (
            ""
            if found == wanted
            else (
                f"the text of the ids of {case['name']}: the original has {_shown(wanted)}, "
                f"the GGUF {_shown(found)}"
            )
        )


def _chats(vocabulary: Vocabulary, original: Mapping[str, Any]) -> Iterator[str]:
    has = bool(vocabulary.header.text(_TEMPLATE))
    if has != original["has_template"]:
        here = "the GGUF has a chat template" if has else "the GGUF has no chat template"
        yield f"{here}, the original has {'none' if has else 'one'}"
        return
    for chat in original["chats"]:
        found = _rendered(vocabulary, chat)
        yield (
            ""
            if found == chat["text"]
            else (
                f"the chat template renders {chat['name']} otherwise: the original "
                f"{_shown(chat['text'])}, the GGUF {_shown(found)}"
            )
        )


def _rendered(vocabulary: Vocabulary, chat: Mapping[str, Any]) -> str:
    try:
        return vocabulary.chat(chat)
    except Exception as error:  # noqa: BLE001  a template raises whatever Python raises
        return f"{type(error).__name__}: {error}"


def _stops(vocabulary: Vocabulary, original: Mapping[str, Any]) -> Iterator[str]:
    for token in original["stops"]:
        named = f"{token} ({vocabulary.piece(token)})"
        yield "" if vocabulary.ends(token) else f"the original stops at {named}, the GGUF does not"
    for name in ("bos", "eos"):
        wanted, found = original[name], vocabulary.told(name)
        if wanted is not None and original["generates"]:
            yield "" if wanted == found else f"{name} is {wanted}, in the GGUF {found}"
    for name in ("bos", "eos"):
        wanted, found = original[f"adds_{name}"], bool(vocabulary.told(f"get_add_{name}"))
        if original["generates"]:
            does = "adds" if wanted else "adds no"
            yield "" if wanted == found else f"the original {does} {name}, the GGUF otherwise"


def _ids_words(wanted: Sequence[int], found: Sequence[int]) -> str:
    """Both lists from a little before they part."""
    pairs = zip(wanted, found, strict=False)
    first = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(found)))
    start = max(first - 2, 0)
    mine, other = (list(ids[start : start + _SHOWN_IDS]) for ids in (wanted, found))
    return f"from token {start} the original has {mine}, the GGUF {other}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…")
