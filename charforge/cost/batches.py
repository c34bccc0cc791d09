"""Random samples of an exact number of tokens: half dialogue, half pictures to learn to draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charforge.cost.peaks import forward_flops, step_flops
from charforge.families.protocol import Family, Shapes
from charforge.families.work import Tokens, drawing_tokens, pack_tokens
from charforge.kinds import counts
from charforge.sample import Part
from charforge.settings import SftSettings
from charforge.train.samples import Dataset, alone

CAPTION, DIALOGUE = 32, 256
"""Tokens, markers included, of a caption and about of a dialogue; a quarter of a dialogue is its supervised reply."""


@dataclass(frozen=True)
class Batch:
    """One training step's worth of samples; ``dialogues`` are (all tokens, supervised positions)."""

    dialogues: tuple[tuple[int, int], ...]
    pictures: int
    picture_side: int
    picture_tokens: int
    picture_marks: int

    @property
    def tokens(self) -> int:
        """All tokens of the step."""
        picture = CAPTION + self.picture_marks + self.picture_tokens
        return sum(n for n, _ in self.dialogues) + self.pictures * picture


def plan_batch(shapes: Shapes, tokens: int) -> Batch:
    """The batch of ``tokens``: pictures of the largest size that fits into half of them, dialogues in the rest.

    Raises ValueError when not even the smallest picture and a reply fit.
    """
    side, step = shapes.largest_side, shapes.side_step
    while (side // step) ** 2 > tokens // 2 and side // 2 >= step:
        side //= 2
    latents = (side // step) ** 2
    whole = CAPTION + shapes.picture_marks + latents
    pictures = max(1, round(tokens / 2 / whole))
    rest = tokens - pictures * whole
    if rest < 16:
        raise ValueError(f"{tokens} tokens hold no picture of {latents} tokens and a dialogue")
    count = -(-rest // DIALOGUE)
    lengths = [rest // count + (index < rest % count) for index in range(count)]
    # one token less is supervised than the reply has: the first is predicted by nothing of it
    return Batch(tuple((n, n // 4 - 1) for n in lengths), pictures, side, latents, shapes.picture_marks)


def make_dataset(family: Family, shapes: Shapes, batch: Batch, seed: int = 0) -> Dataset:
    """Random ids and pictures in the shape of ``batch``."""
    generator = torch.Generator().manual_seed(seed)

    def text(tokens: int, loss: bool = False) -> Part:
        return family.random_text(shapes, tokens, generator, loss)

    def picture() -> Part:
        return family.random_target(shapes, batch.picture_tokens, generator)

    dialogues = [(text(n - loss - 1), text(loss + 1, loss=True)) for n, loss in batch.dialogues]
    pictures = [(text(CAPTION), picture()) for _ in range(batch.pictures)]
    return Dataset({"dialogues": alone(dialogues), "pictures": alone(pictures)})


def batch_settings(settings: SftSettings, batch: Batch) -> SftSettings:
    """The settings with which one step takes exactly the samples of ``batch``."""
    taken = {"dialogues": len(batch.dialogues), "pictures": batch.pictures}
    return settings.model_copy(update={name: taken.get(name, 0) for name in counts()})


def batch_flops(shapes: Shapes, batch: Batch, rank: int, context_gradients: bool) -> float:
    """Operations of one step. Without ``context_gradients`` captions are only read, not learned from."""
    texts = pack_tokens((n, 0, loss) for n, loss in batch.dialogues)
    if context_gradients:
        pictures = pack_tokens([(CAPTION + batch.picture_marks, batch.picture_tokens, 0)] * batch.pictures)
        return step_flops(shapes, texts + pictures, rank)
    captions: Tokens = pack_tokens([(CAPTION, 0, 0)] * batch.pictures)
    drawn = drawing_tokens(batch.pictures, batch.picture_tokens, CAPTION)
    return step_flops(shapes, texts + drawn, rank) + forward_flops(shapes, captions, rank)
