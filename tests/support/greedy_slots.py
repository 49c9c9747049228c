"""Writes with a bundle's TFLite decoder; run with the Python of a toolchain that has the runtime.

usage: greedy_slots.py BUNDLE TOKENS ASKED.json

ASKED holds `texts` and `chats`, lists of messages. Prints JSON: `texts`, each with its tokens and
those written behind it up to an end, and `chats`, the prompts of each.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from edgeward.runtimes.engines.base import EngineOptions
from edgeward.runtimes.engines.litert import open_model
from edgeward.runtimes.tasks.chat import ChatTemplate
from edgeward.runtimes.tasks.generation import Generator


def main() -> None:
    """Print what our own session writes."""
    folder, tokens = Path(sys.argv[1]), int(sys.argv[2])
    asked = json.loads(Path(sys.argv[3]).read_text())
    generator = Generator(folder, open_model(folder / "model.tflite", EngineOptions(threads=1)))
    template = ChatTemplate(folder)
    told = {
        "texts": [written(generator, text, tokens) for text in asked["texts"]],
        "chats": [template.render(messages) for messages in asked["chats"]],
    }
    print(json.dumps(told))


def written(generator: Generator, text: str, tokens: int) -> dict[str, Any]:
    """Return the tokens of a text, and the likeliest behind it."""
    ids = generator.encode(text)
    behind = generator.continued(ids, tokens)
    kept = list(itertools.takewhile(lambda token: token not in generator.ends, behind))
    return {"text": text, "tokens": ids, "written": kept}


if __name__ == "__main__":
    main()
