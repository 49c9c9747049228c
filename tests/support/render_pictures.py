"""Renders the packaged pictures: run from the repository's root, needs numpy and Pillow.

usage: render_pictures.py FOLDER. Shapes, gradients, texture and rows like text, in the modes, sides
and orientations that people's pictures have; seeded, so that every run renders the same pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def landscape() -> Image.Image:
    """Sky, sun, hills and a gate, wider than high."""
    rows = np.broadcast_to(np.arange(120)[:, None], (120, 168))
    sky = np.stack([90 + rows, 140 + rows // 2, 230 - rows // 3], axis=2).astype(np.uint8)
    picture = Image.fromarray(sky)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((118, 12, 148, 42), fill=(255, 220, 90))
    hills = [(x, int(80 + 14 * np.sin(x / 19) + 6 * np.cos(x / 7))) for x in range(168)]
    draw.polygon([*hills, (167, 119), (0, 119)], fill=(50, 120, 60))
    draw.rectangle((40, 60, 84, 112), fill=(150, 60, 40), outline=(60, 20, 10), width=3)
    draw.rectangle((54, 80, 70, 112), fill=(30, 30, 40))
    return picture


def portrait() -> Image.Image:
    """Blocks and discs over noise, higher than wide, lying on its side as its EXIF tells."""
    noise = np.random.default_rng(7).integers(60, 120, (96, 136, 1))
    picture = Image.fromarray(np.repeat(noise, 3, axis=2).astype(np.uint8) // 8 * 8)
    draw = ImageDraw.Draw(picture)
    for number, colour in enumerate([(220, 40, 40), (40, 200, 70), (50, 80, 230), (240, 230, 60)]):
        left = 8 + 32 * number
        draw.ellipse((left, 12, left + 26, 38), fill=colour)
        draw.rectangle((left + 2, 52, left + 24, 86), fill=colour[::-1])
    return picture


def page() -> Image.Image:
    """Rows of short strokes like text, grey."""
    picture = Image.new("L", (144, 144), 244)
    draw = ImageDraw.Draw(picture)
    generator = np.random.default_rng(11)
    for row in range(12, 136, 11):
        at = 10
        while at < 128:
            length = int(generator.integers(3, 17))
            draw.rectangle((at, row, min(at + length, 134), row + 4), fill=25)
            at += length + 4
    return picture


def texture() -> Image.Image:
    """Waves and checkers of few colours, with a palette."""
    rows, columns = np.mgrid[:100, :140]
    waves = 127 + 120 * np.sin(columns / 9) * np.cos(rows / 13)
    checks = ((rows // 10 + columns // 10) % 2) * 255
    both = np.stack([waves, checks, 255 - waves], axis=2).astype(np.uint8)
    return Image.fromarray(both).quantize(24)


def main() -> None:
    """Write all of them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    landscape().save(folder / "landscape.png", optimize=True)
    portrait().save(folder / "portrait.png", optimize=True, exif=turned)
    page().save(folder / "page.png", optimize=True)
    texture().save(folder / "texture.png", optimize=True)


if __name__ == "__main__":
    main()
