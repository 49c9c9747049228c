"""torch's tracer without what it does for nothing while it exports a model of free sizes.

What is written stays the same to the byte. Sources: torch 2.13.0, `fx/experimental/sym_node.py`,
`fx/experimental/symbolic_shapes.py`, `_subclasses/fake_tensor.py` and `fx/config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quick_tracing() -> Iterator[None]:
    """Trace, while it is held, with sizes kept, outputs checked for less, and no stack traces."""
    with _kept_sizes(), _unvalidated_sizes(), _quick_checks(), _no_stack_traces():
        yield


@contextmanager
def _kept_sizes() -> Iterator[None]:
    """Look for the expression that a size was replaced by before anything is asked of it."""
    from torch.fx.experimental.sym_node import SymNode

    whole = SymNode.expr

    def expr(self: Any) -> Any:
        kept = self._expr_cache
        if kept is not None and self._expr_ver == self.shape_env._replacements_version_counter:
            return kept
        return whole.fget(self)

    with _replaced(SymNode, "expr", property(expr)):
        yield


@contextmanager
def _unvalidated_sizes() -> Iterator[None]:
    """Record no graph of sizes where none is validated, as by default: there is never a node."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    whole = ShapeEnv._create_fx_call_function

    def create(self: Any, op: Any, args: Any) -> Any:
        if self._translation_validation_enabled:
            return whole(self, op, args)
        return None, False

    with _replaced(ShapeEnv, "_create_fx_call_function", create):
        yield


@contextmanager
def _quick_checks() -> Iterator[None]:
    """Check what is kept of an operator's output on a tensor of no size.

    torch makes the output a second time, sizes and storage too, to read the dispatch keys of it.
    Those follow from the type, the layout, the device and the flags alone.
    """
    from functools import partial

    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import has_free_unbacked_symbols

    whole = FakeTensorMode._get_output_info_for_cache_entry

    def info(
        self: Any, state: Any, key: Any, func: Any, args: Any, kwargs: Any, output: Any
    ) -> Any:
        if has_free_unbacked_symbols(output):
            return whole(self, state, key, func, args, kwargs, output)
        self._output_from_cache_entry = partial(_without_size, self)
        try:
            return whole(self, state, key, func, args, kwargs, output)
        finally:
            del self._output_from_cache_entry

    with _replaced(FakeTensorMode, "_get_output_info_for_cache_entry", info):
        yield


def _without_size(mode: Any, _state: Any, entry: Any, *_call: Any) -> Any:
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, in_kernel_invocation_manager

    kept = entry.output_infos[0].metadata
    with in_kernel_invocation_manager(mode):
        empty = torch.empty_strided(
            (),
            (),
            dtype=kept.dtype,
            layout=kept.layout,
            device="meta",
            requires_grad=kept.requires_grad,
        )
    if kept.is_conj:
        torch._C._set_conj(empty, True)
    if kept.is_neg:
        torch._C._set_neg(empty, True)
    return FakeTensor(mode, empty, kept.device)


@contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Write down for no node where in Python it came from: the file does not say it."""
    import torch.fx

    with _replaced(torch.fx.config, "do_not_emit_stack_traces", True):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    whole = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, whole)
