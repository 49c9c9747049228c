"""llm-compressor's sequential calibration, one block at a time, that goes on where it stopped.

Runs inside the `compressed` toolchain. What `llmcompressor.pipelines.independent` does, a pass over
the blocks for each modifier, with three differences: each finished block is kept on disk, a run
that finds kept blocks takes them and only passes the samples through, and it tells how far it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeward.runtimes.bundle.durable import sync

Say = Callable[[int, int, str], None]
Samples = Sequence[Mapping[str, Any]]


class Blocks:
    """Finished blocks on disk, whole or not there: `NNNN.safetensors` in the order of the model."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def has(self, number: int) -> bool:
        """Whether a block was finished before."""
        return self._folder is not None and self._path(number).is_file()

    def keep(self, number: int, tensors: Mapping[str, Any]) -> None:
        """Write a block, fsynced, and rename it into its place."""
        from safetensors.torch import save_file

        if self._folder is None:
            return
        path = self._path(number)
        draft = path.with_suffix(".draft")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
        sync(draft)
        draft.rename(path)
        sync(self._folder)

    def read(self, number: int) -> dict[str, Any]:
        """Return a finished block's tensors."""
        from safetensors.torch import load_file

        found: dict[str, Any] = load_file(self._path(number))
        return found

    def _path(self, number: int) -> Path:
        return Path(self._folder or os.devnull) / f"{number:04d}.safetensors"


def calibrate(
    model: Any, recipe: Sequence[Any], samples: Samples, blocks: Blocks, say: Say
) -> None:
    """Apply llm-compressor's modifiers, each block after block; they look at samples to round.

    One that rounds sees what those before it made of the whole model: what flows into a layer that
    was smoothed is not what flowed into it before. Without samples, weights are rounded as they
    are. `say` gets a block's number, how many there are in all passes, and what is done with it.
    """
    from llmcompressor.core import active_session
    from llmcompressor.modeling.offset_norm import norm_calibration_context

    session = active_session()
    session.reset()
    with norm_calibration_context(model), unpinned():
        session.initialize(model=model, start=-1, recipe=list(recipe), calib_data=samples)
        passes = sum(modifier.requires_calibration_data for modifier in recipe)
        done = 0
        for modifier in recipe:
            session.lifecycle.recipe.modifiers = [modifier]
            if samples and modifier.requires_calibration_data:
                _sequential(model, samples, blocks, say, (done, passes))
                done += 1
            else:
                _at_once(model)
        session.lifecycle.recipe.modifiers = list(recipe)
    session.finalize()


@contextlib.contextmanager
def unpinned() -> Iterator[None]:
    """Let AWQ run without an accelerator: it pins what it keeps for one, and fails."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.accelerator.is_available():
        yield
        return
    pins = IntermediatesCache.pin_memory
    IntermediatesCache.pin_memory = lambda *_, **__: None
    try:
        yield
    finally:
        IntermediatesCache.pin_memory = pins


def _at_once(model: Any) -> None:
    from llmcompressor.core import LifecycleCallbacks

    LifecycleCallbacks.calibration_start()
    LifecycleCallbacks.sequential_epoch_end(list(model.modules()))
    LifecycleCallbacks.calibration_end()


def _sequential(
    model: Any, samples: Samples, blocks: Blocks, say: Say, place: tuple[int, int]
) -> None:
    """One pass: `place` is its number and how many there are."""
    from llmcompressor.core import LifecycleCallbacks, active_session
    from llmcompressor.modifiers.utils.hooks import HooksMixin
    from llmcompressor.pipelines.cache import IntermediatesCache
    from llmcompressor.utils.helpers import DisableQuantization, calibration_forward_context

    subgraphs = _subgraphs(model, samples[0])
    first, count = place[0] * len(subgraphs), place[1] * len(subgraphs)
    names = {module: name for name, module in model.named_modules()}
    state = active_session().state
    LifecycleCallbacks.calibration_start()
    with calibration_forward_context(model), DisableQuantization(model):
        between = IntermediatesCache.from_dataloader(samples)
        state.loss_masks = None
        state.sequential_prefetch = False
        for number, subgraph in enumerate(subgraphs, start=first):
            modules = subgraph.submodules(model)
            if blocks.has(number):
                say(number, count, "taken up again")
                restore(modules, names, blocks.read(number))
            else:
                say(number, count, "calibrating")
                for at in range(len(samples)):
                    state.current_batch_idx = at
                    subgraph.forward(model, **between.fetch(at, subgraph.input_names))
                say(number, count, "rounding")
                LifecycleCallbacks.sequential_epoch_end(modules)
                blocks.keep(number, tensors_of(modules, names))
            if subgraph is subgraphs[-1]:
                break
            with HooksMixin.disable_hooks():
                for at in range(len(samples)):
                    outputs = subgraph.forward(model, **between.fetch(at, subgraph.input_names))
                    between.update(at, outputs)
                    between.delete(at, subgraph.consumed_names)
        LifecycleCallbacks.calibration_end()


def _subgraphs(model: Any, sample: Mapping[str, Any]) -> Sequence[Any]:
    from llmcompressor.args.dataset_arguments import DatasetArguments
    from llmcompressor.pipelines.sequential.helpers import trace_subgraphs
    from llmcompressor.utils.pytorch.module import infer_sequential_targets

    targets, ignored = infer_sequential_targets(model, None), DatasetArguments().tracing_ignore
    found: Sequence[Any] = trace_subgraphs(model, dict(sample), targets, ignored)
    return found


def tensors_of(modules: Sequence[Any], names: Mapping[Any, str]) -> dict[str, Any]:
    """Return what a block consists of, weights and scales, by full name."""
    found: dict[str, Any] = {}
    for module in modules:
        if module not in names:
            continue
        for own in (*module._parameters, *module._buffers):
            tensor = getattr(module, own)
            if tensor is not None:
                found[f"{names[module]}|{own}"] = tensor.detach().clone()
    return found


def restore(modules: Sequence[Any], names: Mapping[Any, str], tensors: Mapping[str, Any]) -> None:
    """Put a finished block's tensors where they were."""
    import torch
    from compressed_tensors.utils import update_offload_parameter

    by_name = {names[module]: module for module in modules if module in names}
    for full, tensor in tensors.items():
        place, _, own = full.partition("|")
        module = by_name[place]
        held = getattr(module, own, None)
        if held is not None and held.shape == tensor.shape and held.dtype == tensor.dtype:
            update_offload_parameter(module, own, tensor)
        else:
            setattr(module, own, torch.nn.Parameter(tensor, requires_grad=False))
