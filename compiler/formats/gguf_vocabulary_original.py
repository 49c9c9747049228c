"""The stage that asks the original tokenizer: ids of hard texts, chats, what stops a text.

Runs inside the toolchain that has transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeward.compiler.reference_model import load_tokenizer
from edgeward.compiler.stage_context import StageContext
from edgeward.runtimes.tasks.generation import end_tokens, read_settings

from .gguf_vocabulary_texts import CHATS, HARD_TEXTS, with_special

FILE_NAME = "vocabulary.json"
# A template may write today's date.
TODAY = datetime(2024, 2, 29, tzinfo=timezone.utc)
_MOST_SPECIAL = 8
_TOOL_TEMPLATE = "tool_use"


def reference(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write `vocabulary.json`: what the original makes of every text and chat."""
    folder = context.inputs["source"]
    tokenizer = load_tokenizer(folder)
    special = with_special(list(dict.fromkeys(tokenizer.all_special_tokens))[:_MOST_SPECIAL])
    texts = _texts(tokenizer, {**HARD_TEXTS, **special})
    chats = _chats(tokenizer)
    document = {
        "texts": texts,
        "special": list(special),
        "chats": chats,
        "generates": bool(params["generates"]),
        "has_template": bool(tokenizer.chat_template),
        "stops": sorted(_stops(folder, tokenizer)) if params["generates"] else [],
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        **_added(tokenizer),
    }
    (context.out / FILE_NAME).write_text(json.dumps(document), encoding="utf-8")
    return {
        "summary": f"{len(texts)} texts, {len(chats)} chats, stops at "
        f"{', '.join(map(str, document['stops'])) or 'nothing'}"
    }


def _texts(tokenizer: Any, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    found = []
    for name, text in texts.items():
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.append(
            {
                "name": name,
                "text": text,
                "ids": plain,
                "special_ids": tokenizer(text)["input_ids"],
                "decoded": tokenizer.decode(
                    plain, skip_special_tokens=False, clean_up_tokenization_spaces=False
                ),
            }
        )
    return found


def _chats(tokenizer: Any) -> list[dict[str, Any]]:
    """What the template renders; what it refuses, as a system's word in some, is left out."""
    if not tokenizer.chat_template:
        return []
    found = []
    for name, chat in CHATS.items():
        try:
            text = tokenizer.apply_chat_template(
                chat["messages"],
                tools=chat.get("tools"),
                add_generation_prompt=chat["add_generation_prompt"],
                tokenize=False,
                strftime_now=TODAY.strftime,
            )
        except Exception:  # noqa: BLE001, S112  a template raises whatever Python raises
            continue
        named = isinstance(tokenizer.chat_template, dict)
        uses = _TOOL_TEMPLATE if named and _TOOL_TEMPLATE in tokenizer.chat_template else ""
        found.append(
            {"name": name, **chat, "text": text, "template": uses if chat.get("tools") else ""}
        )
    return found


def _stops(folder: Path, tokenizer: Any) -> set[int]:
    stops = set(end_tokens(folder, read_settings(folder / "config.json")))
    return stops or {token for token in [tokenizer.eos_token_id] if token is not None}


def _added(tokenizer: Any) -> dict[str, bool]:
    """Whether the tokenizer puts a beginning or an end of text around what it is given."""
    plain = tokenizer("x", add_special_tokens=False)["input_ids"]
    special = tokenizer("x")["input_ids"]
    longer = len(special) > len(plain)
    return {
        "adds_bos": longer and special[0] == tokenizer.bos_token_id,
        "adds_eos": longer and special[-1] == tokenizer.eos_token_id,
    }
