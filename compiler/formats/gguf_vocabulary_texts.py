"""Texts and chats on which tokenizers and chat templates depart from each other, if they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST_WORD = 600
HARD_TEXTS: Mapping[str, str] = {
    "a sentence": "The ferry leaves at a quarter past seven.",
    "numbers": "0 7 42 1999 31337 3.14159 1,234,567.89 -273.15 6.022e23 0xDEADBEEF ½ ² Ⅷ ٣٤٥",
    "code": "def f(x: int) -> str:\n    return f'{x!r:>10}'  # why\n\nif (a && b) { c[0] += 1; }\n",
    "markup": '<p class="a">&amp; &lt;b&gt;</p> [link](https://example.org/?q=1&r=2#s)',
    "contractions": "I'm sure they've said it's what we'd do, IT'S WHAT THEY'LL SAY, won't it?",
    "emoji": "👍 👩‍👩‍👧‍👦 🏳️‍🌈 🇸🇪🇯🇵 ☺️ 👋🏽 ❤️‍🔥",
    "Chinese": "北京的天气今天很好\uff0c我们去公园吧。",
    "Japanese": "これはテストです。カタカナとひらがな、漢字。",
    "Korean": "한국어 문장을 토큰으로 나눕니다.",
    "Arabic": "مرحبا بالعالم، كيف حالك؟",
    "Hindi": "नमस्ते दुनिया, आप कैसे हैं?",
    "Cyrillic": "Съешь же ещё этих мягких французских булок.",
    "combining marks": "e\u0301a\u0308n\u0303 Å\u030a\u0323 z\u0335a\u0336l\u0337g\u0338o",
    "composed letters": "naïve façade Ångström Zürich ﬁnance ﬂow ①②",
    "spaces in a row": "a  b   c    d     e        f",
    "spaces before": "   three spaces before",
    "a space before": " one space before",
    "spaces behind": "two spaces behind  ",
    "spaces alone": "     ",
    "tabs and lines": "\tone\t\ttwo\n\nthree\r\nfour\n\n\n\tfive\n",
    "a line before": "\nafter a line",
    "odd spaces": "a\u00a0b\u2003c\u3000d\u200be\u2028f\u2009g",
    "punctuation": "...!!!??? --- ___ *** ((())) “quoted” \u2018it\u2019 \u2013 — … ¿qué? «oui» €",
    "mixed case": "camelCaseWord SCREAMING_SNAKE_CASE kebab-case iPhone McDonald",
    "a very long word": "pneumonoultramicroscopicsilicovolcanoconiosis" * (LONGEST_WORD // 45),
    "one letter": "x",
    "control characters": "a\x01b\x07c\x7fd",
    "rare letters": "\U0001d573\U0001d58a\U0001d591 𐍈 ꙮ ᚠᛇᚻ ⠓⠑⠇⠇⠕",
}
# What llama.cpp's WordPiece does otherwise whatever the file says: it drops marks that belong to a
# letter (parts of Korean syllables and Indian vowels) and knows no longest word.
WORDPIECE_LIMITS = frozenset({"Hindi", "Korean", "a very long word"})
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name."}},
            "required": ["city"],
        },
    },
}
_USER = {"role": "user", "content": "Which platform does the train to Malmö leave from? 🚆"}
_ANSWER = {"role": "assistant", "content": "Platform 4, at 9:15."}
_AGAIN = {"role": "user", "content": "  And how long\ndoes it take?\n"}
_SYSTEM = {"role": "system", "content": "You answer in one sentence."}
CHATS: Mapping[str, Mapping[str, Any]] = {
    "a question": {"messages": [_USER], "add_generation_prompt": True},
    "a question alone": {"messages": [_USER], "add_generation_prompt": False},
    "a system's word": {"messages": [_SYSTEM, _USER], "add_generation_prompt": True},
    "several turns": {
        "messages": [_SYSTEM, _USER, _ANSWER, _AGAIN],
        "add_generation_prompt": True,
    },
    "an answer at the end": {
        "messages": [_USER, _ANSWER],
        "add_generation_prompt": False,
    },
    "tools": {
        "messages": [_SYSTEM, _USER],
        "add_generation_prompt": True,
        "tools": [_WEATHER],
    },
}


def with_special(special: list[str]) -> dict[str, str]:
    """Return texts with a tokenizer's special tokens among words, by name."""
    return {
        f"{token} in a text": f"before{token}after {token} between {token}{token}\n{token}"
        for token in special
    }
