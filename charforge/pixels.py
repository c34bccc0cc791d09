"""Pictures as pixels (3, H, W) in [-1, 1], and sheets of them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB with transparency pasted on white."""
    if image.mode == "RGBA" or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.split()[3])
        return white
    return image.convert("RGB")


def middle_square(image: Image.Image) -> Image.Image:
    """The largest square around the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def to_pixels(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """(3, H, W) in [-1, 1] after bicubic resizing to ``size`` = (width, height)."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return _from_bytes(torch.from_numpy(np.asarray(image).copy())).permute(2, 0, 1)


def to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] -> picture; values are truncated to bytes as in the published code."""
    return Image.fromarray(_to_bytes(pixels).permute(1, 2, 0).numpy())


def through_bytes(pixels: Tensor) -> Tensor:
    """(..., H, W) in [-1, 1] as a picture of them has them, on the CPU: what :func:`to_pixels` makes of
    :func:`to_image`, to the bit."""
    return _from_bytes(_to_bytes(pixels))


def _to_bytes(pixels: Tensor) -> Tensor:
    return ((pixels.float() * 0.5 + 0.5).clamp(0, 1) * 255).to(torch.uint8).cpu()


def _from_bytes(values: Tensor) -> Tensor:
    return (values.float() / 255 - 0.5) / 0.5


def contact_sheet(pictures: list[Image.Image], columns: int, cell: int = 128) -> Image.Image:
    """Pictures in rows on white."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), (255, 255, 255))
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((cell, cell)), ((index % columns) * cell, (index // columns) * cell))
    return sheet
