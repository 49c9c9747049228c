"""The text generators that every run tries; the others are built of the same parts."""

from __future__ import annotations

# One of each way to place (ALiBi, turned pairs, halves and parts of a head, learned, none in some
# layers), to share keys, to window, to normalise queries, to store and to mix.
DECODER_KINDS = (
    *("bloom", "codegen", "cohere2", "falcon", "gemma2", "gemma3_text", "gpt2", "gpt_neo"),
    *("gpt_neox", "llama", "mixtral", "opt", "phi3", "qwen2_moe", "qwen3"),
)
