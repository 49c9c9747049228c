"""Images, as the model's own preprocessing would hand them over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeward.compiler.given_data import Line
from edgeward.compiler.preprocessors import PictureProcessor
from edgeward.compiler.tasks import TaskSpec
from edgeward.runtimes.tasks.pictures import PIXELS
from edgeward.runtimes.tasks.pooling import read_json

from .base import Axes, Given, Sizes

_DEFAULT_SIDE = 224
_LARGEST_SIDE = 4096
_GOLDEN = ("gradient", "checkers", "noise", "black", "white", "scene")
_EVALUATED = 12
_CALIBRATED = 32
_DRAWN = 12
_LEVELS = (-1.9, -0.7, 0.0, 0.8, 1.9)


class Image:
    """Normalised pixels (batch, channels, height, width) of the size that the model is fed."""

    def __init__(self, spec: TaskSpec, folder: Path, model: Any) -> None:
        del spec
        self._size = image_size(folder, model.config)
        self._channels = int(getattr(model.config, "num_channels", 3))
        self._processor = PictureProcessor(folder, self._size, self._channels)

    def traced(self) -> dict[str, Any]:
        """Return two pictures."""
        import torch

        return {"pixel_values": torch.cat([self._picture("scene", n) for n in (0, 1)])}

    def axes(self) -> Axes:
        """Return the batch: height and width are what the preprocessing makes."""
        return {"pixel_values": {0: "batch"}}

    def fit(self, sizes: Sizes) -> None:
        """Do nothing: pictures are of the size that they always are."""

    def golden(self, texts: dict[str, str]) -> list[Given]:
        """Return plain, busy, empty and saturated pictures."""
        del texts
        return [
            Given(name, {"pixel_values": self._picture(name, number)})
            for number, name in enumerate(_GOLDEN)
        ]

    def evaluation(self, texts: Sequence[Line]) -> list[Given]:
        """Return seeded scenes of smooth shapes and noise."""
        del texts
        return self._scenes(100, _EVALUATED)

    def calibration(self, texts: Sequence[Line]) -> list[Given]:
        """Return other seeded scenes, plain pictures and pages.

        What is even, and what has hard edges on it, excites other channels.
        """
        del texts
        pages = [self._drawn(seed) for seed in range(_DRAWN)]
        return [*self._scenes(500, _CALIBRATED), *map(self._plain, _LEVELS), *pages]

    def _drawn(self, seed: int) -> Given:
        """Rectangles of several colours on an even ground, many small ones or a few large ones."""
        import torch

        height, width = self._size
        generator = torch.Generator().manual_seed(900 + seed)
        shade = torch.rand((self._channels, 1, 1), generator=generator) * 4 - 2
        picture = shade.expand(self._channels, height, width).clone()
        number, rows, columns = (40, 18, 6) if seed % 2 else (12, 2, 2)
        for _ in range(number):
            place = torch.rand(4 + self._channels, generator=generator)
            top, left, high, wide = place[:4].tolist()
            y, x = int(top * height), int(left * width)
            to_y, to_x = y + 1 + int(high * height / rows), x + 1 + int(wide * width / columns)
            picture[:, y:to_y, x:to_x] = place[4:, None, None] * 4 - 2
        return Given(f"drawn {seed}", {"pixel_values": picture[None]})

    def _plain(self, level: float) -> Given:
        import torch

        shape = (1, self._channels, *self._size)
        return Given(f"plain {level}", {"pixel_values": torch.full(shape, level)})

    def _scenes(self, seed: int, number: int) -> list[Given]:
        return [
            Given(f"scene {n}", {"pixel_values": self._picture("scene", seed + n)})
            for n in range(number)
        ]

    def from_file(self, name: str, content: bytes) -> Given | None:
        """Return a picture's case."""
        pixels = self._processor(content)
        return None if pixels is None else Given(name, {PIXELS: pixels})

    @property
    def feeds(self) -> str:
        """The pixels."""
        return PIXELS

    def untraced(self, seed: int) -> list[Given]:
        """Return batches of one, three and five."""
        import torch

        return [
            Given(
                f"{rows} pictures",
                {
                    "pixel_values": torch.cat(
                        [self._picture("noise", seed + n) for n in range(rows)]
                    )
                },
            )
            for rows in (1, 3, 5)
        ]

    def _picture(self, kind: str, seed: int) -> Any:
        import torch

        height, width = self._size
        generator = torch.Generator().manual_seed(seed)
        shape = (1, self._channels, height, width)
        if kind == "black":
            return torch.full(shape, -2.0)
        if kind == "white":
            return torch.full(shape, 2.0)
        if kind == "noise":
            return torch.randn(shape, generator=generator)
        if kind == "gradient":
            return torch.linspace(-2, 2, width).expand(shape).contiguous()
        if kind == "checkers":
            rows, columns = torch.arange(height)[:, None] // 8, torch.arange(width)[None] // 8
            return (((rows + columns) % 2) * 3.0 - 1.5).expand(shape).contiguous()
        coarse = torch.randn((1, self._channels, 6, 6), generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
        return smooth + 0.1 * torch.randn(shape, generator=generator)


def image_size(folder: Path, config: Any) -> tuple[int, int]:
    """Return (height, width) after preprocessing: the processor's crop or size, else the model's.

    A shortest edge means a square picture here.
    """
    path = folder / "preprocessor_config.json"
    settings = read_json(path) if path.is_file() else {}
    settings = settings if isinstance(settings, dict) else {}
    crop = settings.get("crop_size") if settings.get("do_center_crop", True) else None
    vision = getattr(config, "vision_config", None)
    own = getattr(config, "image_size", None) or getattr(vision, "image_size", None)
    for stated in (crop, settings.get("size"), own):
        size = _pair(stated)
        if size is not None:
            return size
    return (_DEFAULT_SIDE, _DEFAULT_SIDE)


def _pair(stated: Any) -> tuple[int, int] | None:
    if isinstance(stated, dict):
        edge = stated.get("shortest_edge") or stated.get("longest_edge")
        stated = (stated.get("height", edge), stated.get("width", edge))
    sides = tuple(stated) if isinstance(stated, (list, tuple)) else (stated, stated)
    if len(sides) != 2 or not all(isinstance(s, int) and 0 < s <= _LARGEST_SIDE for s in sides):
        return None
    return (sides[0], sides[1])
