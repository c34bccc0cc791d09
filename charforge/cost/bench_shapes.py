"""The shapes that can be measured without their weights, and the settings they are measured with."""

from __future__ import annotations

from pathlib import Path

from charforge.bases.base import MINI
from charforge.errors import InputError
from charforge.families.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    ExpertConfig,
    SamplingConfig,
    SpecialTokens,
    VisionConfig,
    bagel_7b,
    read_config,
)
from charforge.resources import preset_path
from charforge.settings import Settings, read_settings

SHAPES = ("bagel", "mini", "small")
SIDE, QUICK_SIDE = 512, 128
"""Pixels a side of the pictures that are drawn, where the shape draws that large."""

# BAGEL scaled down for one CPU core; every width a multiple of 64, which nf4 needs
_SMALL_EXPERT = ExpertConfig(hidden_size=256, intermediate_size=768)
_SMALL = BagelConfig(
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=64,
    vocab_size=2048,
    understanding=_SMALL_EXPERT,
    generation=_SMALL_EXPERT,
    vision=VisionConfig(
        hidden_size=64, intermediate_size=128, heads=2, layers=2, patches_per_side=16, max_size=224, min_size=112
    ),
    autoencoder=AutoencoderConfig(channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8),
    special_tokens=SpecialTokens(bos=1, eos=2, image_start=3, image_end=4),
)


def shape(name: str, quick: bool = False) -> BagelConfig:
    """The configuration of ``bagel``, ``mini``, ``small`` or of a base folder, set to draw squares of ``SIDE``.

    Smaller where the shape draws no larger. Raises InputError for an unknown name or an unreadable folder.
    """
    config = _named(name)
    side = min(QUICK_SIDE if quick else SIDE, config.image_max_size, config.max_latent_size * config.latent_stride)
    sampling: SamplingConfig = config.sampling.model_copy(update={"height": side, "width": side})
    return config.model_copy(update={"sampling": sampling})


def _named(name: str) -> BagelConfig:
    if name == "bagel":
        return bagel_7b()
    if name == "mini":
        return read_config(MINI)
    if name == "small":
        return _SMALL
    if Path(name).is_dir():
        return read_config(Path(name))
    raise InputError(f"--base {name}: use {', '.join(SHAPES)}, or the folder of a base")


def bench_settings(name: str, preset: str | None, quick: bool) -> Settings:
    """The settings of ``preset`` (by default the preset ``mini`` for that base, built-in defaults for others).

    Batches are the bench's own: one group of pictures (of four when ``quick``), no anchor, no caption dropped.
    """
    chosen = preset or ("mini" if name == "mini" else None)
    settings = read_settings(preset_path(chosen), None, []) if chosen else Settings()
    grpo: dict[str, object] = {"prompts": 1, "updates": 1, "anchor": 0.0, "algorithm": "grpo", "warmup": 0}
    if quick:
        grpo["group"] = 4
    sft = {"caption_dropout": 0.0, "warmup": 0, "draws": 1}
    own = {"grpo": settings.grpo.model_copy(update=grpo), "sft": settings.sft.model_copy(update=sft)}
    return settings.model_copy(update=own)
