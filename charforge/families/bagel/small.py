"""BAGEL scaled down for one CPU core: to measure with, not to train."""

from __future__ import annotations

from charforge.families.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    ExpertConfig,
    SpecialTokens,
    VisionConfig,
)

# every width is a multiple of 64, which nf4 needs
_SMALL_EXPERT = ExpertConfig(hidden_size=256, intermediate_size=768)
SMALL = BagelConfig(
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
