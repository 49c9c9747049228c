"""Holds MediaPipe's file against the proved one, in LiteRT; run inside the `litert` toolchain.

Both get the same texts, pictures or sounds; what the runtime's own tasks make of the proved file's
outputs is what the other has to give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.compiler.stage_context import StageContext
from edgeward.errors import StageError
from edgeward.runtimes.engines.base import EngineOptions, EngineSession
from edgeward.runtimes.engines.litert import checked, open_model
from edgeward.runtimes.tasks.labels import read_config, sigmoid, softmax
from edgeward.runtimes.tasks.pictures import PIXELS, read_picture_settings
from edgeward.runtimes.tasks.pooling import read_pipeline
from edgeward.runtimes.tasks.waveforms import WAVE, Waveforms

from .tflite_options import MEDIAPIPE_FILE

PROVED = "model.tflite"
_CASES = 3
# Integers are rounded from activations that differ in their last digits.
_LEAST, _LEAST_ROUNDED = 0.99999, 0.98
_ROUNDED = ("int8-dynamic", "int4-weights")
Arrays = Mapping[str, NDArray[Any]]


def check(context: StageContext, params: Mapping[str, Any]) -> dict[str, Any]:
    """Raise StageError where the two files give different answers; `mediapipe_cosine_min`."""
    folder, assets, task = context.inputs["model"], context.inputs["assets"], params["task"]
    own = open_model(folder / MEDIAPIPE_FILE, EngineOptions(threads=1))
    proved = open_model(folder / PROVED, EngineOptions(threads=1))
    taken = _shapes(folder / MEDIAPIPE_FILE)
    largest = _shapes(folder / PROVED)
    ids = int(read_config(assets).get("vocab_size") or 0)
    worst = 1.0
    for seed in range(_CASES):
        given = _given(taken, np.random.default_rng(seed), ids)
        told = own.run(given)
        fed = _fed(given, largest, assets)
        wanted = _answer(task, _rows(proved, fed, largest), given, assets)
        worst = min([worst, *(_cosine(told[name], value) for name, value in wanted.items())])
    least = _LEAST_ROUNDED if params["precision"] in _ROUNDED else _LEAST
    if not worst >= least:
        raise StageError(
            f"{MEDIAPIPE_FILE} gives other answers than {PROVED}",
            why=f"their cosine is {worst:.5f} at worst, {least} is wanted",
        )
    return {"mediapipe_cosine_min": worst, "summary": f"cosine to {PROVED} {worst:.6f} at worst"}


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    told = checked(path)
    first = told.signatures[0]
    tensors = told.graphs[first.graph].tensors
    return {name: tensors[index].shape for name, index in first.inputs.items()}


def _given(
    taken: Mapping[str, tuple[int, ...]], random: np.random.Generator, ids: int
) -> dict[str, NDArray[Any]]:
    """Return what MediaPipe would feed: one picture, sound or text that fills a part."""
    found: dict[str, NDArray[Any]] = {}
    for name, shape in taken.items():
        if name == "image":
            found[name] = random.integers(0, 256, shape).astype(np.float32)
        elif name == "waveform":
            found[name] = random.uniform(-1, 1, shape).astype(np.float32)
        else:
            found[name] = np.zeros(shape, np.int32)
    if "ids" in found:
        length = int(random.integers(2, taken["ids"][1] + 1))
        found["ids"][:, :length] = random.integers(0, ids, length)
        found["mask"][:, :length] = 1
    return found


def _fed(given: Arrays, largest: Mapping[str, tuple[int, ...]], assets: Path) -> Arrays:
    """Return the same as the proved file takes it, made by the runtime's own rules."""
    if "image" in given:
        told = read_picture_settings(assets)
        pixels = given["image"][..., ::-1] if told.reverses_channels else given["image"]
        mean, deviation = (np.asarray(row, np.float32) for row in (told.mean, told.deviation))
        normal = (pixels * np.float32(told.factor) - mean) / deviation
        return {PIXELS: np.ascontiguousarray(normal.transpose(0, 3, 1, 2), np.float32)}
    if "waveform" in given:
        return {WAVE: Waveforms(assets)(given["waveform"][0])[WAVE]}
    names = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}
    return {name: given[names[name]] for name in largest}


def _rows(
    session: EngineSession, fed: Arrays, largest: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]]:
    """Run the proved file's largest shape: the row again and again, nothing behind it."""
    padded = {}
    for name, shape in largest.items():
        missing = [(0, most - length) for most, length in zip(shape, fed[name].shape, strict=True)]
        modes = np.pad(fed[name], [(0, 0), *missing[1:]])
        padded[name] = np.repeat(modes, shape[0], axis=0)
    return {name: np.asarray(value[:1]) for name, value in session.run(padded).items()}


def _answer(
    task: str, found: Mapping[str, NDArray[Any]], given: Arrays, assets: Path
) -> dict[str, NDArray[Any]]:
    return _ANSWERS.get(task, _scores)(found, given, assets, task)


def _embedding(found: Arrays, given: Arrays, assets: Path, task: str) -> dict[str, NDArray[Any]]:
    del task
    mask = given["mask"].astype(np.int64)
    tokens = found["last_hidden_state"][:, : mask.shape[1]]
    return {"embedding": read_pipeline(assets)(tokens, mask)}


def _segmentation(found: Arrays, given: Arrays, assets: Path, task: str) -> dict[str, NDArray[Any]]:
    del given, assets, task
    return {"segmentation": softmax(found["logits"].transpose(0, 2, 3, 1))}


def _objects(found: Arrays, given: Arrays, assets: Path, task: str) -> dict[str, NDArray[Any]]:
    del given, assets, task
    shares = softmax(found["logits"][0])[:, :-1]
    order = np.argsort(-shares.max(axis=1), kind="stable")
    middle, half = found["pred_boxes"][0][:, :2], found["pred_boxes"][0][:, 2:] / 2
    low, high = middle - half, middle + half
    corners = np.stack([low[:, 1], low[:, 0], high[:, 1], high[:, 0]], axis=1)
    return {
        "location": corners[order][None],
        "category": shares.argmax(axis=1)[order][None].astype(np.float32),
        "score": shares.max(axis=1)[order][None],
        "count": np.array([len(order)], np.float32),
    }


def _scores(found: Arrays, given: Arrays, assets: Path, task: str) -> dict[str, NDArray[Any]]:
    del given
    logits, problem = found["logits"], read_config(assets).get("problem_type")
    of_texts = task == "text-classification"
    if of_texts and problem == "regression":
        return {"scores": logits}
    several = problem == "multi_label_classification" or (of_texts and logits.shape[-1] == 1)
    return {"scores": sigmoid(logits) if several else softmax(logits)}


_ANSWERS: Mapping[str, Callable[[Arrays, Arrays, Path, str], dict[str, NDArray[Any]]]] = {
    "feature-extraction": _embedding,
    "semantic-segmentation": _segmentation,
    "object-detection": _objects,
}


def _cosine(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return how alike they are: the cosine, less where one is longer; 0 where they do not fit."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return 0.0
    a, b = (np.asarray(one, np.float64).ravel() for one in (found, wanted))
    least, most = sorted((float(np.linalg.norm(a)), float(np.linalg.norm(b))))
    if not least:
        return float(not most)
    return float(a @ b) / most**2
