"""Random samples of an exact number of tokens: half dialogue, half pictures to learn to draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charforge.cost.flops import Tokens, drawing_tokens, forward_flops, pack_tokens, step_flops
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.splits import TextSplit
from charforge.sample import Target
from charforge.settings import SftSettings
from charforge.train.sft import Dataset

CAPTION, DIALOGUE = 32, 256
"""Tokens, markers included, of a caption and about of a dialogue; a quarter of a dialogue is its supervised reply."""


@dataclass(frozen=True)
class Batch:
    """One training step's worth of samples; ``dialogues`` are (all tokens, supervised positions)."""

    dialogues: tuple[tuple[int, int], ...]
    pictures: int
    picture_side: int
    latents_per_picture: int

    @property
    def tokens(self) -> int:
        """All tokens of the step."""
        return sum(n for n, _ in self.dialogues) + self.pictures * (CAPTION + 2 + self.latents_per_picture)


def plan_batch(config: BagelConfig, tokens: int) -> Batch:
    """The batch of ``tokens``: pictures of the largest size that fits into half of them, dialogues in the rest.

    Raises ValueError when not even the smallest picture and a reply fit.
    """
    side = min(config.image_max_size, config.max_latent_size * config.latent_stride)
    while (side // config.latent_stride) ** 2 > tokens // 2 and side // 2 >= config.latent_stride:
        side //= 2
    latents = (side // config.latent_stride) ** 2
    whole = CAPTION + 2 + latents
    pictures = max(1, round(tokens / 2 / whole))
    rest = tokens - pictures * whole
    if rest < 16:
        raise ValueError(f"{tokens} tokens hold no picture of {latents} tokens and a dialogue")
    count = -(-rest // DIALOGUE)
    lengths = [rest // count + (index < rest % count) for index in range(count)]
    # [bos, ids] predict [ids, eos]: one position less than the reply has tokens
    return Batch(tuple((n, n // 4 - 1) for n in lengths), pictures, side, latents)


def make_dataset(config: BagelConfig, batch: Batch, seed: int = 0) -> Dataset:
    """Random ids and latents in the shape of ``batch``."""
    generator = torch.Generator().manual_seed(seed)
    special = config.special_tokens
    markers = torch.tensor([special.bos, special.eos, special.image_start, special.image_end])
    plain = torch.arange(config.vocab_size)
    plain = plain[~torch.isin(plain, markers)]

    def text(tokens: int, loss: bool = False) -> TextSplit:
        return TextSplit(tuple(plain[torch.randint(len(plain), (tokens - 2,), generator=generator)].tolist()), loss)

    grid = batch.picture_side // config.latent_stride
    ids = grid_position_ids(grid, grid, config.max_latent_size, config.interpolate_positions)

    def picture() -> Target:
        return Target(torch.randn(batch.latents_per_picture, config.latent_token_size, generator=generator), ids)

    return Dataset(
        dialogues=[(text(n - loss - 1), text(loss + 1, loss=True)) for n, loss in batch.dialogues],
        requests=[],
        knowledge=[],
        looks=[],
        pictures=[(text(CAPTION), picture()) for _ in range(batch.pictures)],
        replay_texts=[],
        replay_looks=[],
        replay_pictures=[],
        held_out_texts=[],
        held_out_pictures=[],
    )


def batch_settings(settings: SftSettings, batch: Batch) -> SftSettings:
    """The settings with which one step takes exactly the samples of ``batch``."""
    counts = {
        "dialogues": len(batch.dialogues), "requests": 0, "knowledge": 0, "looks": 0,
        "replay_texts": 0, "replay_looks": 0, "pictures": batch.pictures, "replay_pictures": 0,
    }  # fmt: skip
    return settings.model_copy(update=counts)


def batch_flops(config: BagelConfig, batch: Batch, rank: int, context_gradients: bool) -> float:
    """Operations of one step. Without ``context_gradients`` captions are only read, not learned from."""
    texts = pack_tokens((n, 0, loss) for n, loss in batch.dialogues)
    if context_gradients:
        pictures = pack_tokens([(CAPTION + 2, batch.latents_per_picture, 0)] * batch.pictures)
        return step_flops(config, texts + pictures, rank)
    captions: Tokens = pack_tokens([(CAPTION, 0, 0)] * batch.pictures)
    drawn = drawing_tokens(config, batch.pictures, batch.latents_per_picture, CAPTION)
    return step_flops(config, texts + drawn, rank) + forward_flops(config, captions, rank)
