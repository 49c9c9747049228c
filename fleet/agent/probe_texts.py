"""The texts with which a soak asks the server: the bundle's own golden inputs."""

from __future__ import annotations

import json

from edgeward.runtimes.bundle.read import Bundle

MAX_BYTES = 8 * 2**20
MAX_TEXTS = 16
FALLBACK = ("Where is gate B12?",)


def probe_texts(bundle: Bundle) -> tuple[str, ...]:
    """Return a few golden texts; one of our own where the bundle carries none."""
    golden = bundle.manifest.golden
    if golden is None:
        return FALLBACK
    try:
        with (bundle.path / golden.path).open("rb") as file:
            cases = json.loads(file.read(MAX_BYTES))["cases"]
        texts = tuple(str(case["text"]) for case in cases[:MAX_TEXTS])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return FALLBACK
    return tuple(text for text in texts if text.strip()) or FALLBACK
