"""What MediaPipe Tasks make of files; run with the Python of an environment that has MediaPipe.

usage: mediapipe_calls.py FILE. FILE is JSON: a list of [class, model, given], where given is a list
of texts, or an .npy file of a picture uint8 (height, width, 3) or of a sound float32 (samples,) at
16 kHz. Prints a JSON list of the answers, {"refused": words} where a file is not opened.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, audio, text, vision
from mediapipe.tasks.python.components.containers import AudioData

_RATE = 16_000


def picture(path: str) -> Any:
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.load(path))


def scores(categories: Any) -> list[Any]:
    return [[one.category_name, one.score] for one in categories]


def classes(task: Any, given: str) -> Any:
    return scores(task.classify(picture(given)).classifications[0].categories)


def objects(task: Any, given: str) -> Any:
    found = []
    for one in task.detect(picture(given)).detections:
        box = one.bounding_box
        corners = [box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height]
        found.append([*scores(one.categories[:1])[0], corners])
    return found


def planes(task: Any, given: str) -> Any:
    mask = np.asarray(task.segment(picture(given)).category_mask.numpy_view())
    return {"labels": list(task.labels), "classes": mask.squeeze().tolist()}


def texts(task: Any, given: list[str]) -> Any:
    return [scores(task.classify(one).classifications[0].categories) for one in given]


def vectors(task: Any, given: list[str]) -> Any:
    return [np.asarray(task.embed(one).embeddings[0].embedding).tolist() for one in given]


def sounds(task: Any, given: str) -> Any:
    (first, *_) = task.classify(AudioData.create_from_array(np.load(given), _RATE))
    return scores(first.classifications[0].categories)


CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ImageClassifier": (vision, classes, {}),
    "ObjectDetector": (vision, objects, {"max_results": 5}),
    "ImageSegmenter": (vision, planes, {"output_category_mask": True}),
    "TextClassifier": (text, texts, {}),
    "TextEmbedder": (text, vectors, {}),
    "AudioClassifier": (audio, sounds, {}),
}


def answer(kind: str, model: str, given: Any) -> Any:
    room, call, more = CALLS[kind]
    base = BaseOptions(model_asset_path=model)
    options = getattr(room, f"{kind}Options")(base_options=base, **more)
    try:
        with getattr(room, kind).create_from_options(options) as task:
            return call(task, given)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        return {"refused": str(error)[:400]}


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps([answer(*one) for one in asked]))


if __name__ == "__main__":
    main()
