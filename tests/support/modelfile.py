"""A strict reader of Ollama's Modelfile, by its documentation, for tests.

Instructions in capitals, one a line; a value is a word or words, or stands between quotes, three of
them where it has lines. Anything else is a ValueError. https://docs.ollama.com/modelfile
"""

from __future__ import annotations

import re

_INSTRUCTION = re.compile(
    r"(?P<name>FROM|ADAPTER|TEMPLATE|SYSTEM|LICENSE|PARAMETER (?P<parameter>[a-z_]+)) "
    r'(?:"""(?P<long>.*?)"""|"(?P<quoted>[^"\n]*)"|(?P<bare>[^"\s][^"\n]*))\n',
    re.DOTALL,
)
_COMMENT = re.compile(r"#[^\n]*\n")
PARAMETERS = {
    "min_p": float,
    "num_ctx": int,
    "repeat_penalty": float,
    "stop": str,
    "temperature": float,
    "top_k": int,
    "top_p": float,
}


def read_modelfile(text: str) -> dict[str, list[str]]:
    """Return each instruction's values in order, parameters by their own name."""
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(text):
        if comment := _COMMENT.match(text, at):
            at = comment.end()
            continue
        match = _INSTRUCTION.match(text, at)
        if match is None:
            raise ValueError(f"no instruction at {text[at : at + 60]!r}")
        value = next(v for v in (match["long"], match["quoted"], match["bare"]) if v is not None)
        name = match["parameter"] or match["name"]
        if match["parameter"]:
            PARAMETERS[name](value)
        found.setdefault(name, []).append(value)
        at = match.end()
    if len(found.get("FROM", [])) != 1:
        raise ValueError("a Modelfile has one FROM")
    return found
