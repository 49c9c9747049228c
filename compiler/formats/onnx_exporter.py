"""transformers' exporter to ONNX, its patterns matched without listing the graph for every node.

onnxscript looks for a pattern with several outputs by listing all nodes of the graph, once for each
node and pattern, before it looks at the node: most of an export's time where a model is deep. The
first output's node is the one it was called for, so one that cannot be it is refused at once; what
is written stays the same to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .onnx_torchlib import kept_torchlib
from .onnx_tracing import quick_tracing


def exported(module: Any, inputs: Mapping[str, Any], config: Any) -> Any:
    """Return the program of a module as `onnx_ir` has it; raises what the exporter raises."""
    from transformers.exporters import OnnxExporter

    with quick_matching(), quick_tracing(), kept_torchlib():
        return OnnxExporter().export(module, dict(inputs), config).program


@contextmanager
def quick_matching() -> Iterator[None]:
    """Refuse at once, while it is held, the nodes that a pattern of several outputs cannot end in.

    Source: onnxscript 0.7.2, `rewriter/_matcher.py`, `SimplePatternMatcher.match`.
    """
    import onnx_ir
    from onnxscript.rewriter import _matcher

    matcher = _matcher.SimplePatternMatcher
    whole = matcher.match

    def match(self: Any, model: Any, graph: Any, node: Any, **options: Any) -> Any:
        if self.pattern.has_single_output_node:
            return whole(self, model, graph, node, **options)
        self._graph = graph if isinstance(graph, onnx_ir.Graph) else graph.graph
        self._init_match(options.get("verbose", 0))
        if not self._match_node(self.pattern.output_nodes[0], node):
            return self._match
        return whole(self, model, graph, node, **options)

    matcher.match = match
    try:
        yield
    finally:
        matcher.match = whole
