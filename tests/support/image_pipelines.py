"""What transformers makes of pictures; run with the `onnx` toolchain's Python, Pillow beside it.

stdin: JSON rows [task, folder, picture]; stdout: one JSON value a row. `pixels` writes the
processor's pixels to PICTURE.npy; the tasks answer as the processor's own post-processing does.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image, ImageOps

CLASSES = {
    "depth-estimation": "AutoModelForDepthEstimation",
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
}


def answer(task: str, folder: str, path: str) -> Any:
    """Run one row."""
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    pixels = processor(images=picture, return_tensors="pt")
    if task == "pixels":
        np.save(f"{path}.npy", pixels["pixel_values"].numpy())
        return list(pixels["pixel_values"].shape)
    model = getattr(transformers, CLASSES[task]).from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(pixel_values=pixels["pixel_values"])
    sides = [(picture.height, picture.width)]
    if task == "image-classification":
        return found.logits.softmax(-1)[0].tolist()
    if task == "object-detection":
        (seen,) = processor.post_process_object_detection(found, 0.0, sides)
        return {name: value.tolist() for name, value in seen.items()}
    if task == "semantic-segmentation":
        (classes,) = processor.post_process_semantic_segmentation(found, sides)
        return classes.tolist()
    depth = found.predicted_depth[None]
    return torch.nn.functional.interpolate(depth, sides[0], mode="bicubic")[0, 0].tolist()


if __name__ == "__main__":
    print(json.dumps([answer(*row) for row in json.load(sys.stdin)]))
