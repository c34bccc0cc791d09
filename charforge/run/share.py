"""``share.png``: before and after with labels, made to be shown to others."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

CELL, GAP, TITLE, LABEL, LINE = 256, 12, 60, 30, 20
LETTERS = 30
"""Letters of a prompt that fit under a picture, in a line."""
INK, FAINT, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)


def share_sheet(
    name: str, base: str, prompts: Sequence[str], bare: Sequence[Image.Image], adapted: Sequence[Image.Image]
) -> Image.Image:
    """Both rows of drawings under their labels, each column over its prompt. No training picture is on it."""
    captions = [textwrap.wrap(prompt, LETTERS)[:4] for prompt in prompts]
    lines = max(len(caption) for caption in captions)
    width = GAP + len(prompts) * (CELL + GAP)
    height = TITLE + 2 * (LABEL + CELL) + GAP + lines * LINE + 2 * LINE
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 14), name, fill=INK, font=_font(28))
    top = TITLE
    for label, row in ((f"{base} alone", bare), (f"{base} with the adapter of {name}", adapted)):
        draw.text((GAP, top + 6), label, fill=INK, font=_font(16))
        for column, picture in enumerate(row):
            sheet.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (_left(column), top + LABEL))
        top += LABEL + CELL
    for column, caption in enumerate(captions):
        for number, line in enumerate(caption):
            draw.text((_left(column), top + GAP + number * LINE), line, fill=INK, font=_font(14))
    note = "Same prompts, same noise, nothing picked. Drawn by charforge."
    draw.text((GAP, height - LINE - 6), note, fill=FAINT, font=_font(13))
    return sheet


def _left(column: int) -> int:
    return GAP + column * (CELL + GAP)


def _font(size: int) -> ImageFont.FreeTypeFont:
    # it comes with matplotlib, and knows the letters of most languages of Europe
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
