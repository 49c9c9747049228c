"""Writes with LiteRT-LM; run with the Python of the peer's room.

usage: litert_lm_calls.py FILE ASKED.json

ASKED holds `texts`, each `{"text", "written"}` where `written` are the tokens that another engine
wrote behind it, and `chats`, lists of messages. Prints JSON: `texts`, each with the tokens that it
reads and what it writes as text beside the text of `written`, token after token; and `chats`, the
prompts that it makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import litert_lm


def main() -> None:
    """Print what the engine answers."""
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    engine = litert_lm.Engine(sys.argv[1], cache_dir=":nocache")
    asked = json.loads(Path(sys.argv[2]).read_text())
    told = {
        "begin": engine.bos_token_id,
        "ends": engine.eos_token_ids,
        "texts": [written(engine, one["text"], one["written"]) for one in asked["texts"]],
        "chats": [prompt(engine, messages) for messages in asked["chats"]],
    }
    print(json.dumps(told))


def written(engine: Any, text: str, tokens: list[int]) -> dict[str, Any]:
    """Return the tokens of a text, and what comes behind it, by how many tokens it has."""
    counts = sorted({min(count, len(tokens)) for count in (1, 2, 3, 8, len(tokens))} - {0})
    return {
        "tokens": engine.tokenize(text),
        "found": [_behind(engine, text, count) for count in counts],
        "wanted": [engine.detokenize(tokens[:count]) for count in counts],
    }


def _behind(engine: Any, text: str, count: int) -> str:
    likeliest = litert_lm.SamplerConfig(top_k=1)
    with engine.create_session(
        apply_prompt_template=False, sampler_config=likeliest, max_output_tokens=count
    ) as session:
        session.run_prefill([text])
        return str(session.run_decode().texts[0])


def prompt(engine: Any, messages: list[dict[str, str]]) -> str:
    """Return the prompt of a conversation's last message behind the others."""
    *before, last = messages
    with engine.create_conversation(messages=before) as conversation:
        return str(conversation.render_message_to_string(last))


if __name__ == "__main__":
    main()
