"""A model as MediaPipe Tasks feed and read it, traced inside the `litert` toolchain.

MediaPipe takes a file of one graph (`mediapipe/tasks/cc`). It gives pictures channels last with one
mean for all channels (`image_preprocessing_graph.cc`), texts as BERT's three inputs
(`bert_preprocessor_calculator.cc`), and it reads scores, masks, vectors and boxes as the graph
gives them. So what a runtime of ours does before and behind the model is in this graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeward.compiler.mobile.front import Front, open_front
from edgeward.compiler.mobile.proved import prove_front
from edgeward.compiler.tasks import TaskSpec
from edgeward.errors import UnsupportedError
from edgeward.runtimes.tasks.labels import read_config
from edgeward.runtimes.tasks.pictures import PIXELS, read_picture_settings
from edgeward.runtimes.tasks.pooling import read_pipeline
from edgeward.runtimes.tasks.tokens import token_limit
from edgeward.runtimes.tasks.waveforms import WAVE, Waveforms

from .tflite_mediapipe_pooling import pooled
from .tflite_mediapipe_tokenizer import refuse_tokenizer
from .tflite_options import MEDIAPIPE_TASKS

IMAGE, IDS, SEGMENTS, MASK, SOUND = "image", "ids", "segment_ids", "mask", "waveform"
_EPSILON = 1e-7
Tensors = tuple[torch.Tensor, ...]
Before = Callable[..., Mapping[str, torch.Tensor]]
After = Callable[[Mapping[str, torch.Tensor], Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class TaskFront:
    """What is converted: a module, its examples by MediaPipe's names, its outputs' names."""

    module: Any
    inputs: Mapping[str, Any]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Ends:
    """What stands before a model, and the examples that it takes."""

    before: Before
    inputs: Mapping[str, Any]


class _Task(nn.Module):  # type: ignore[misc]  # torch is typed in its room alone
    """A model between what MediaPipe feeds and what it reads."""

    def __init__(self, front: Front, before: Before, after: After) -> None:
        super().__init__()
        self.inner, self._names, self._outputs = front.module, tuple(front.inputs), front.outputs
        self._before, self._after = before, after

    def forward(self, *given: torch.Tensor) -> Tensors:
        """Take MediaPipe's inputs in order; return the task's outputs."""
        fed = self._before(*given)
        found = self.inner(*(fed[name] for name in self._names))
        return self._after(dict(zip(self._outputs, found, strict=True)), given)


def open_task_front(
    spec: TaskSpec, folder: Path, assets: Path, model: Any, sizes: Mapping[str, int]
) -> TaskFront:
    """Wrap a loaded model for one row of its largest sizes; it is held against the original.

    Raises UnsupportedError for what MediaPipe would feed otherwise than the model expects.
    """
    sizes = {**sizes, "batch": 1}
    if spec.modality == "text":
        refuse_tokenizer(assets)
        limit = token_limit(assets, read_pipeline(assets).max_tokens)
        sizes["sequence"] = min(sizes["sequence"], limit or sizes["sequence"])
    front = open_front(spec.name, folder, model, sizes)
    prove_front(front, spec.name, folder, sizes)
    ends = _ENDS[spec.modality](front, assets)
    names, after = _read(spec, assets)
    task = _Task(front, ends.before, after)
    # A traced module within takes no eval(), and needs none.
    task.training = False
    return TaskFront(task, ends.inputs, names)


def _picture(front: Front, assets: Path) -> _Ends:
    """Pixels from 0 to 255, (1, height, width, 3)."""
    _, channels, height, width = front.inputs[PIXELS].shape
    if channels != 3:
        raise UnsupportedError(
            "MediaPipe gives pictures three channels", why=f"this model takes {channels}"
        )
    settings = read_picture_settings(assets)
    mean, deviation = (torch.tensor(row) for row in (settings.mean, settings.deviation))

    def before(image: torch.Tensor) -> dict[str, torch.Tensor]:
        if settings.reverses_channels:
            image = torch.cat([image[..., n : n + 1] for n in (2, 1, 0)], dim=-1)
        normal = (image * settings.factor - mean) / deviation
        return {PIXELS: normal.permute(0, 3, 1, 2)}

    return _Ends(before, {IMAGE: torch.zeros(1, height, width, channels)})


def _text(front: Front, assets: Path) -> _Ends:
    """BERT's inputs; a model that has no types of tokens gets zeros, and they change nothing."""
    del assets
    typed = "token_type_ids" in front.inputs

    def before(ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> Any:
        if not typed:
            ids = ids + torch.minimum(kinds, torch.zeros_like(kinds))
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}

    like = front.inputs["input_ids"]
    inputs = {IDS: like, MASK: torch.ones_like(like), SEGMENTS: torch.zeros_like(like)}
    return _Ends(before, inputs)


def _sound(front: Front, assets: Path) -> _Ends:
    """Samples between -1 and 1, (1, samples), made of mean 0 and variance 1 where it has to be."""
    if WAVE not in front.inputs or front.inputs[WAVE].dim() != 2:
        raise UnsupportedError(
            "MediaPipe gives sounds as samples", why="this model reads a spectrogram"
        )
    normalises = Waveforms(assets).normalises

    def before(samples: torch.Tensor) -> dict[str, torch.Tensor]:
        if normalises:
            centred = samples - samples.mean(dim=1, keepdim=True)
            power = (centred * centred).mean(dim=1, keepdim=True)
            samples = centred * torch.rsqrt(power + _EPSILON)
        return {WAVE: samples}

    return _Ends(before, {SOUND: torch.zeros_like(front.inputs[WAVE])})


_ENDS: Mapping[str, Callable[[Front, Path], _Ends]] = {
    "image": _picture,
    "text": _text,
    "audio": _sound,
}


def _read(spec: TaskSpec, assets: Path) -> tuple[tuple[str, ...], After]:
    """The outputs of a task by the names that metadata gives them, and what makes them."""
    if spec.name not in MEDIAPIPE_TASKS:
        raise UnsupportedError(f"MediaPipe has no task for {spec.name}")
    if spec.name == "feature-extraction":
        pool = pooled(assets)
        return ("embedding",), lambda found, given: (
            pool(found["last_hidden_state"], given[1].to(torch.float32)),
        )
    if spec.name == "object-detection":
        return ("location", "category", "score", "count"), _objects
    problem = read_config(assets).get("problem_type")
    if spec.name == "semantic-segmentation":
        return ("segmentation",), _planes
    return ("scores",), lambda found, _: (_shares(found["logits"], spec.name, problem),)


def _shares(logits: torch.Tensor, task: str, problem: Any) -> torch.Tensor:
    """Scores as the runtime's own tasks have them."""
    if problem == "regression" and task == "text-classification":
        return logits
    single = logits.shape[-1] == 1 and task == "text-classification"
    if problem == "multi_label_classification" or single:
        return torch.sigmoid(logits)
    return torch.softmax(logits, dim=-1)


def _planes(found: Mapping[str, torch.Tensor], given: Tensors) -> Tensors:
    """Shares of the classes of each pixel, (1, height, width, classes)."""
    del given
    return (torch.softmax(found["logits"].permute(0, 2, 3, 1), dim=-1),)


def _objects(found: Mapping[str, torch.Tensor], given: Tensors) -> Tensors:
    """Boxes (1, objects, 4) as top, left, bottom, right in shares of the picture; the surest first.

    MediaPipe takes the first ones where it is to give but a few.
    """
    del given
    shares = torch.softmax(found["logits"], dim=-1)[..., :-1]
    score, order = torch.topk(shares.amax(dim=-1)[0], shares.shape[1])
    category = shares[0].argmax(dim=-1)[order].to(torch.float32)
    box = found["pred_boxes"][0][order]
    middle, half = box[:, :2], box[:, 2:] / 2
    low, high = middle - half, middle + half
    columns = (low[:, 1:], low[:, :1], high[:, 1:], high[:, :1])
    count = torch.zeros_like(score[:1]) + float(shares.shape[1])
    return torch.cat(columns, dim=1)[None], category[None], score[None], count
