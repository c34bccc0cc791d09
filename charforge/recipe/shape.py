"""The shape of ``mini``: SmolLM2-135M-Instruct beside a narrow generation expert on every second layer."""

from __future__ import annotations

from charforge.families.bagel.config import (
    AutoencoderConfig,
    BagelConfig,
    ExpertConfig,
    SamplingConfig,
    SpecialTokens,
    VisionConfig,
)


def mini_config(latent_mean: tuple[float, ...], latent_std: tuple[float, ...]) -> BagelConfig:
    """The configuration that ships with the package; the latent statistics come from the autoencoder's training."""
    return BagelConfig(
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        vocab_size=49152,
        rope_theta=100_000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        understanding=ExpertConfig(hidden_size=576, intermediate_size=1536, qk_norm=False, qkv_bias=False),
        generation=ExpertConfig(hidden_size=256, intermediate_size=768, qk_norm=True, qkv_bias=False),
        generation_layers=tuple(range(1, 30, 2)),
        vision=VisionConfig(
            hidden_size=256,
            intermediate_size=768,
            heads=4,
            layers=6,
            patch_size=16,
            patches_per_side=8,
            max_size=128,
            min_size=128,
        ),
        autoencoder=AutoencoderConfig(
            channels=(64, 128),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=8,
            pixel_unshuffle=4,
            mid_block_attention=False,
            latent_mean=latent_mean,
            latent_std=latent_std,
        ),
        latent_patch_size=2,
        max_latent_size=8,
        image_max_size=128,
        image_min_size=128,
        square_images=True,
        # <|im_start|>, <|im_end|>, and two reserved tokens of the SmolLM2 vocabulary that chat never uses
        special_tokens=SpecialTokens(bos=1, eos=2, image_start=3, image_end=4),
        chat_roles=True,
        sampling=SamplingConfig(
            steps=25, cfg_text_scale=2.5, cfg_interval=(0.0, 1.0), cfg_renorm_type="global", height=128, width=128
        ),
    )
