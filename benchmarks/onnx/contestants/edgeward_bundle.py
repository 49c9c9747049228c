"""A bundle of ours. usage: edgeward_bundle.py BUNDLE"""

from __future__ import annotations

import sys

from protocol import serve

from edgeward.runtimes.session import load

session = load(sys.argv[1], threads=1)
graph = session.generator.graph
state = graph.start()


def prefill(ids):
    """Begin a text."""
    global state
    state = graph.start()
    state.next_logits(ids).argmax()


def decode(token):
    """Add a token."""
    state.next_logits([token]).argmax()


serve(prefill, decode)
