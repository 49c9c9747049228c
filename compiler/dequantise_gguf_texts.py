"""Texts that a tokenizer made from a GGUF file is held to."""

from __future__ import annotations

HARD_TEXTS = (
    "The ferry leaves from the second pier at a quarter past seven; it's 3.50, isn't it?",
    "0 1 12 123 1234 12345 123456 1234567890 3.14159 1,000,000 0x1F 2024-05-17 12:30:45 ½ ² Ⅷ",
    "def f(x):\n    if x != None and x[0] >= 10:\n\t\treturn {'a': x**2}  # comment\n\n\n",
    'for (int i = 0; i < n; ++i) { a[i] += b->c; } // ok\r\n<html><b class="x">&amp;</b></html>',
    "  two   three    four\tTAB\t\ttwo tabs\n\n\nlines \r\n end  ",
    "I'm you're he'll WE'VE I'D they'Re don'T ''quoted'' ```code``` ....!!!!???? ======= ---- ~~~",
    "😀 🚀🦙🦙 👩‍👩‍👧 🏳️‍🌈 ✅ © ™ € £ ¥ → ∑ √ ½",
    "我想在apple工作1314151天\uff5e 東京は日本の首都です。",
    "안녕하세요 세계 កាន់តែពិសេសអាច मानव",
    "нещо на Български Größe naïve café Ünïcödé İstanbul ŁÓDŹ ὀδυσσεύς שלום عالم",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE http://a.b/c?d=e&f=g user@mail.org",
    "word",
    " ",
    "\n",
    "a\u00a0b\u2003c\u200bd\ufeffe",
)
TEXT = (
    "The old lighthouse keeper wrote in his journal every evening. He noted the weather, the ships "
    "that passed, and the price of bread in the village. On the third of March, 1894, a storm tore "
    "the roof from the boathouse, and he spent the night carrying lamps up the stairs. In the "
    "morning the sea was calm again; a small boat came in with 12 boxes of oranges, and the "
    "sailors asked him whether he had seen their captain. He had not. They waited for two days, "
    "then they left, and nobody in the village ever learned what became of him."
)


# BERT's normaliser, which the model learned with, takes Hangul apart and keeps vowel signs;
# llama.cpp's does neither.
NOT_FOR_WORDS = ("안녕하세요 세계 កាន់តែពិសេសអាច मानव",)


def with_special(texts: tuple[str, ...], special: list[str]) -> list[str]:
    """Return the texts and one with every special token between words."""
    mixed = "".join(f"word{token}next {token}\n" for token in special[:64])
    return [*texts, mixed] if mixed else list(texts)
