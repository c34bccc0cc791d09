"""The published resize rule (bagel.md section 6)."""

from __future__ import annotations

MAX_PIXELS = 14 * 14 * 9 * 1024


def resized(
    width: int, height: int, max_size: int, min_size: int, stride: int, max_pixels: int = MAX_PIXELS, img_num: int = 1
) -> tuple[int, int]:
    """Width and height after the published rule (bagel.md section 6). The minimum is not guaranteed."""

    def scaled(scale: float) -> tuple[int, int]:
        # Python's round, half to even, on purpose: the published code uses it
        sides = (max(stride, round(round(side * scale) / stride) * stride) for side in (width, height))
        new_width, new_height = sides
        return new_width, new_height

    scale = max(min(max_size / max(width, height), 1.0), min_size / min(width, height))
    new = scaled(scale)
    if new[0] * new[1] > max_pixels / img_num:
        # the ratio itself, not its square root: as published
        width, height = new
        new = scaled(max_pixels / img_num / (new[0] * new[1]))
    if max(new) > max_size:
        width, height = new
        new = scaled(max_size / max(new))
    return new
