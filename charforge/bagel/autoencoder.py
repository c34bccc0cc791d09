"""The image autoencoder: diffusers' AutoencoderKL behind the published key names and a standardised latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.bagel.config import AutoencoderConfig


class Autoencoder(nn.Module):
    """Pixels (n, 3, H, W) in [-1, 1] <-> standardised latents (n, z, H/d, W/d)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        # slow to import, and a conversation without pictures never needs it
        from diffusers import AutoencoderKL

        super().__init__()
        self.config = config
        pixels = 3 * config.pixel_unshuffle**2
        blocks = len(config.channels)
        # seen as a plain module: diffusers ships no types
        self.kl: Any = AutoencoderKL(
            in_channels=pixels,
            out_channels=pixels,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_num_groups,
            mid_block_add_attention=config.mid_block_attention,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        mean, std = config.latent_mean, config.latent_std
        self.register_buffer("mean", _per_channel(mean, config.shift_factor), persistent=False)
        self.register_buffer("std", _per_channel(std, 1 / config.scale_factor), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def moments(self, pixels: Tensor) -> Tensor:
        """(n, 2z, h, w): posterior mean and log-variance before standardising."""
        return self.kl.encoder(F.pixel_unshuffle(pixels, self.config.pixel_unshuffle))

    def encode(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Standardised latents: the posterior mean, or a sample of it when ``noise`` (n, z, h, w) is given."""
        mean, log_variance = self.moments(pixels).chunk(2, dim=1)
        if noise is not None:
            mean = mean + torch.exp(0.5 * log_variance) * noise
        return (mean - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (n, 3, H, W), about in [-1, 1]."""
        return F.pixel_shuffle(self.kl.decoder(latents * self.std + self.mean), self.config.pixel_unshuffle)

    def load_official(self, tensors: Mapping[str, Tensor], assign: bool = False) -> None:
        """Load tensors with the names of ``ae.safetensors``; with ``assign`` they become the weights, uncopied.

        Raises KeyError or RuntimeError naming what differs.
        """
        self.kl.load_state_dict(from_official(tensors, len(self.config.channels)), assign=assign)

    def official_state(self) -> dict[str, Tensor]:
        """The weights under the names of ``ae.safetensors``."""
        return to_official(self.kl.state_dict(), len(self.config.channels))


def _per_channel(values: tuple[float, ...] | None, scalar: float) -> Tensor:
    # on the CPU also when the weights are still on the meta device: no file brings these
    return torch.tensor([scalar] if values is None else values, device="cpu").view(1, -1, 1, 1)


def _rename(key: str, levels: int, to_diffusers: bool) -> str:
    """One key between the published and the diffusers spelling; ``decoder.up`` counts the other way round."""
    pairs = [
        ("norm_out", "conv_norm_out"),
        ("mid.block_1", "mid_block.resnets.0"),
        ("mid.block_2", "mid_block.resnets.1"),
        ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
        ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
        ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
        ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
        ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
        ("nin_shortcut", "conv_shortcut"),
    ]
    for level in range(levels):
        other = levels - 1 - level
        pairs += [
            (f"encoder.down.{level}.block.", f"encoder.down_blocks.{level}.resnets."),
            (f"encoder.down.{level}.downsample.", f"encoder.down_blocks.{level}.downsamplers.0."),
            (f"decoder.up.{level}.block.", f"decoder.up_blocks.{other}.resnets."),
            (f"decoder.up.{level}.upsample.", f"decoder.up_blocks.{other}.upsamplers.0."),
        ]
    for official, diffusers_name in pairs:
        old, new = (official, diffusers_name) if to_diffusers else (diffusers_name, official)
        if old in key and not (to_diffusers and new in key):
            key = key.replace(old, new)
    return key


def _is_attention_matrix(key: str) -> bool:
    return "mid_block.attentions" in key and "group_norm" not in key and key.endswith("weight")


def from_official(tensors: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Published names and 1x1 convolutions -> diffusers names and linear layers in the middle attention."""
    out = {}
    for key, tensor in tensors.items():
        name = _rename(key, levels, to_diffusers=True)
        out[name] = tensor[:, :, 0, 0] if _is_attention_matrix(name) and tensor.ndim == 4 else tensor
    return out


def to_official(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """The inverse of :func:`from_official`."""
    out = {}
    for key, tensor in state.items():
        shaped = tensor[:, :, None, None] if _is_attention_matrix(key) else tensor
        out[_rename(key, levels, to_diffusers=False)] = shaped.contiguous()
    return out
