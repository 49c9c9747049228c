"""Pictures from files and arrays, as the normalised pixels that a model is fed.

The settings are those of the model's own preprocessor_config.json, the steps those of transformers'
image processors with Pillow; a graph of fixed sides has the last word on the size.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeward.errors import EngineError, UnsupportedError, UsageError
from edgeward.runtimes.engines.base import EngineSession

from .cache_steps import native_of
from .generation import read_settings

Floats = NDArray[np.float32]
Picture = Path | str | bytes | NDArray[np.generic] | Any
PIXELS = "pixel_values"
_BILINEAR = 2
_LARGEST_SIDE = 1 << 14
_SQUASHED_FROM = 384
_PLAIN = ("GLPN", "MobileViT")
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """What is done to a picture, in this order; sides are (height, width).

    `resize` is an exact size, `shortest` the length of the shorter side: one of them or neither.
    """

    resize: tuple[int, int] | None
    shortest: int | None
    crop: tuple[int, int] | None
    resample: int = _BILINEAR
    factor: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    reverses_channels: bool = False


class Pictures:
    """Makes pixels (1, channels, height, width) for one graph."""

    def __init__(self, folder: Path, engine: EngineSession) -> None:
        if PIXELS not in engine.inputs:
            raise UnsupportedError("This graph reads no pictures", why=f"it has no {PIXELS}")
        self.settings = read_picture_settings(folder)
        self._channels, self._sides = _shape_of(engine)

    def __call__(self, picture: Picture) -> tuple[Floats, tuple[int, int]]:
        """Return the pixels, and the picture's own (height, width).

        Raises UsageError where it is no picture.
        """
        opened = open_picture(picture, "L" if self._channels == 1 else "RGB")
        fed = _fitted(opened, self.settings)
        if self._sides is not None and (fed.height, fed.width) != self._sides:
            fed = _resized(fed, self._sides, self.settings.resample)
        values = np.asarray(fed, np.float32).reshape(fed.height, fed.width, -1)
        if self.settings.reverses_channels:
            values = values[..., ::-1]
        mean = np.asarray(self.settings.mean, np.float32)
        deviation = np.asarray(self.settings.deviation, np.float32)
        normal = (values * np.float32(self.settings.factor) - mean) / deviation
        pixels = np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)
        return pixels, (opened.height, opened.width)


def open_picture(picture: Picture, mode: str | None = "RGB") -> Any:
    """Return a Pillow image of a file, what a file holds, an array of uint8 or a Pillow image.

    It is turned as EXIF says, and of the mode that is asked for, its own where that is None.
    """
    pillow = _pillow()
    from PIL import ImageOps

    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or not picture.size:
            raise UsageError(
                "A picture is an array of uint8, (height, width) or (height, width, 3)",
                why=f"got {picture.dtype} of shape {picture.shape}",
            )
    elif not isinstance(picture, (str, Path, bytes, pillow.Image)):
        raise UsageError("A picture is a file, an array or a Pillow image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            if isinstance(picture, np.ndarray):
                opened = pillow.fromarray(picture)
            elif isinstance(picture, pillow.Image):
                opened = picture
            else:
                opened = pillow.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
            turned = ImageOps.exif_transpose(opened)
            turned.load()
            return turned if mode is None else turned.convert(mode)
    except (
        *(OSError, ValueError, TypeError, SyntaxError, EOFError, MemoryError),
        *(pillow.DecompressionBombError, pillow.DecompressionBombWarning),
    ) as error:
        name = picture if isinstance(picture, (str, Path)) else "The picture"
        # Pillow's own words name the object in memory that the bytes lay in.
        unknown = isinstance(error, pillow.UnidentifiedImageError)
        why = "it is in no format that Pillow reads" if unknown else str(error)[:300]
        raise UsageError(f"{name} cannot be read as a picture", why=why) from None


def resized_plane(plane: Floats, sides: tuple[int, int], *, cubic: bool = False) -> Floats:
    """Return one channel (height, width) of floats at another (height, width)."""
    pillow = _pillow()
    how = pillow.Resampling.BICUBIC if cubic else pillow.Resampling.BILINEAR
    opened = pillow.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(opened.resize(sides[::-1], how), np.float32)


def read_picture_settings(folder: Path) -> PictureSettings:
    """Read a model's settings; UnsupportedError where one of them is not what it should be."""
    stated = read_settings(folder / "preprocessor_config.json")
    exact, shortest = _size(stated) if stated.get("do_resize", True) else (None, None)
    crop = _pair(stated.get("crop_size")) if stated.get("do_center_crop") else None
    share = stated.get("crop_pct")
    if shortest and isinstance(share, float) and 0 < share <= 1:
        exact, shortest, crop = _cut_out(shortest, share)
    elif shortest and crop is None:
        # A side that the picture decides: the graph's own sides stand in for it.
        exact, shortest = None, None
    scaled = stated.get("do_rescale", True) is not False
    normalised = stated.get("do_normalize", _normalises(stated)) is not False
    return PictureSettings(
        resize=exact,
        shortest=shortest,
        crop=crop,
        resample=_whole(stated.get("resample"), 5, _BILINEAR),
        factor=_number(stated.get("rescale_factor"), 1 / 255) if scaled else 1.0,
        mean=_row(stated.get("image_mean"), _IMAGENET_MEAN) if normalised else (0.0,),
        deviation=_row(stated.get("image_std"), _IMAGENET_DEVIATION) if normalised else (1.0,),
        reverses_channels=stated.get("do_flip_channel_order") is True,
    )


def _normalises(stated: Mapping[str, Any]) -> bool:
    """Whether pixels are normalised where the settings do not tell: two processors never do."""
    name = str(stated.get("image_processor_type") or stated.get("feature_extractor_type"))
    return bool(stated) and not name.startswith(_PLAIN)


def _fitted(picture: Any, settings: PictureSettings) -> Any:
    if settings.resize is not None:
        picture = _resized(picture, settings.resize, settings.resample)
    if settings.shortest is not None:
        sides = _with_shortest(picture, settings.shortest)
        picture = _resized(picture, sides, settings.resample)
    return picture if settings.crop is None else _cropped(picture, settings.crop)


def _with_shortest(picture: Any, shortest: int) -> tuple[int, int]:
    short, long = sorted((picture.height, picture.width))
    longer = min(int(shortest * long / short), _LARGEST_SIDE)
    return (shortest, longer) if picture.height <= picture.width else (longer, shortest)


def _resized(picture: Any, sides: tuple[int, int], resample: int) -> Any:
    return picture.resize(sides[::-1], resample)


def _cropped(picture: Any, sides: tuple[int, int]) -> Any:
    """The middle; black around a picture that is smaller."""
    top, left = (picture.height - sides[0]) // 2, (picture.width - sides[1]) // 2
    return picture.crop((left, top, left + sides[1], top + sides[0]))


def _shape_of(engine: EngineSession) -> tuple[int, tuple[int, int] | None]:
    """Channels, and the sides where the graph has them fixed."""
    native = native_of(engine)
    listed = native.get_inputs() if native is not None else ()
    shape = next((item.shape for item in listed if item.name == PIXELS), [None, 3, None, None])
    channels, height, width = (side if isinstance(side, int) else 0 for side in shape[1:])
    return channels or 3, (height, width) if height and width else None


def _size(stated: Mapping[str, Any]) -> tuple[tuple[int, int] | None, int | None]:
    size = stated.get("size")
    if isinstance(size, Mapping) and "shortest_edge" in size:
        shortest = size["shortest_edge"]
        return None, _side(shortest, "size.shortest_edge")
    return _pair(size), None


def _cut_out(shortest: int, share: float) -> tuple[Any, int | None, Any]:
    """ConvNeXt's way: small pictures are cut out of larger ones, large ones are squashed."""
    square = (shortest, shortest)
    if shortest >= _SQUASHED_FROM:
        return square, None, None
    return None, int(shortest / share), square


def _pair(stated: Any) -> tuple[int, int] | None:
    if stated is None:
        return None
    if isinstance(stated, Mapping):
        if "height" not in stated or "width" not in stated:
            return None
        return _side(stated["height"], "height"), _side(stated["width"], "width")
    sides = stated if isinstance(stated, list) else [stated, stated]
    if len(sides) != 2:
        raise _wrong("size", stated)
    return _side(sides[0], "size"), _side(sides[1], "size")


def _side(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value <= _LARGEST_SIDE:
        raise _wrong(name, value)
    return value


def _row(stated: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    if stated is None:
        return otherwise
    row = tuple(stated) if isinstance(stated, list) else (stated,)
    if not 0 < len(row) <= 4 or not all(isinstance(v, (int, float)) and v == v for v in row):
        raise _wrong("image_mean or image_std", stated)
    return tuple(float(value) for value in row)


def _number(stated: Any, otherwise: float) -> float:
    known = isinstance(stated, (int, float)) and 0 < stated < 1e6
    return float(stated) if known else otherwise


def _whole(stated: Any, most: int, otherwise: int) -> int:
    return stated if type(stated) is int and 0 <= stated <= most else otherwise


def _wrong(name: str, value: Any) -> UnsupportedError:
    return UnsupportedError(
        "The model's preprocessor_config.json is not one for pictures", why=f"{name} is {value!r}"
    )


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise EngineError(
            "Pillow is not installed", why=str(error), next="pip install 'edgeward[vision]'"
        ) from None
    return Image
