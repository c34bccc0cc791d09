"""The image autoencoder of the published checkpoint, under its names, with a standardised latent (bagel.md 2).

Plain PyTorch: the library that has it too takes five seconds to import, more than a picture does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charforge.families.bagel.config import AutoencoderConfig

EPS = 1e-6
"""Of every group norm."""


class Residual(nn.Module):
    """x + conv(act(norm(conv(act(norm(x))))), with a 1x1 convolution where the number of channels changes."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, before, eps=EPS)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, after, eps=EPS)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h, w)."""
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + hidden


class Attention(nn.Module):
    """One head over all places of the picture."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> same shape."""
        normed = self.norm(x)
        q, k, v = (part(normed).flatten(2).transpose(1, 2)[:, None] for part in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).view_as(x)
        return x + self.proj_out(out)


class Middle(nn.Module):
    """Two residual blocks, attention between them where the base has it."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = Residual(channels, channels, groups)
        self.attn_1 = Attention(channels, groups) if attention else None
        self.block_2 = Residual(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> same shape."""
        x = self.block_1(x)
        return self.block_2(x if self.attn_1 is None else self.attn_1(x))


class Halve(nn.Module):
    """Half the side: a convolution with stride 2, padded at the right and the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, channels, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Twice the side: every place four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, channels, 2 h, 2 w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, then half or twice the side, except at the last."""

    def __init__(self, before: int, after: int, blocks: int, groups: int, resize: tuple[str, nn.Module] | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(before if index == 0 else after, after, groups) for index in range(blocks))
        self.resize = resize[0] if resize else None
        if resize:
            self.add_module(*resize)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h', w')."""
        for block in self.block:
            x = block(x)
        return self.get_submodule(self.resize)(x) if self.resize else x


class Encoder(nn.Module):
    """Pixels to the mean and log-variance of latents."""

    def __init__(self, config: AutoencoderConfig, pixels: int) -> None:
        super().__init__()
        channels, groups, last = config.channels, config.norm_num_groups, len(config.channels) - 1
        self.conv_in = nn.Conv2d(pixels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                channels[max(index - 1, 0)], width, config.layers_per_block, groups,
                ("downsample", Halve(width)) if index < last else None,
            )
            for index, width in enumerate(channels)
        )  # fmt: skip
        self.mid = Middle(channels[-1], groups, config.mid_block_attention)
        self.norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, pixels, H, W) -> (n, 2 z, h, w)."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pixels. ``up`` is numbered as ``down`` is: the last one comes first."""

    def __init__(self, config: AutoencoderConfig, pixels: int) -> None:
        super().__init__()
        channels, groups, last = config.channels, config.norm_num_groups, len(config.channels) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, channels[-1], 3, padding=1)
        self.mid = Middle(channels[-1], groups, config.mid_block_attention)
        self.up = nn.ModuleList(
            Level(
                channels[min(index + 1, last)], width, config.layers_per_block + 1, groups,
                ("upsample", Double(width)) if index > 0 else None,
            )
            for index, width in enumerate(channels)
        )  # fmt: skip
        self.norm_out = nn.GroupNorm(groups, channels[0], eps=EPS)
        self.conv_out = nn.Conv2d(channels[0], pixels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, z, h, w) -> (n, pixels, H, W)."""
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """Pixels (n, 3, H, W) in [-1, 1] <-> standardised latents (n, z, H/d, W/d)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.pixel_unshuffle**2
        # a module of its own: its names are those of the published file, and nothing else is in it
        self.kl = nn.ModuleDict({"encoder": Encoder(config, pixels), "decoder": Decoder(config, pixels)})
        mean, std = config.latent_mean, config.latent_std
        self.register_buffer("mean", _per_channel(mean, config.shift_factor), persistent=False)
        self.register_buffer("std", _per_channel(std, 1 / config.scale_factor), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def moments(self, pixels: Tensor) -> Tensor:
        """(n, 2z, h, w): posterior mean and log-variance before standardising."""
        return self.kl["encoder"](F.pixel_unshuffle(pixels, self.config.pixel_unshuffle))

    def encode(self, pixels: Tensor, noise: Tensor | None = None) -> Tensor:
        """Standardised latents: the posterior mean, or a sample of it when ``noise`` (n, z, h, w) is given."""
        mean, log_variance = self.moments(pixels).chunk(2, dim=1)
        if noise is not None:
            mean = mean + torch.exp(0.5 * log_variance) * noise
        return (mean - self.mean) / self.std

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Pixels (n, 3, H, W) of latents that are not standardised."""
        return F.pixel_shuffle(self.kl["decoder"](latents), self.config.pixel_unshuffle)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels (n, 3, H, W), about in [-1, 1]."""
        return self.decode_raw(latents * self.std + self.mean)

    def load_official(self, tensors: Mapping[str, Tensor], assign: bool = False) -> None:
        """Load tensors with the names of ``ae.safetensors``; with ``assign`` they become the weights, uncopied.

        Raises RuntimeError naming what differs.
        """
        self.kl.load_state_dict(tensors, assign=assign)

    def official_state(self) -> dict[str, Tensor]:
        """The weights under the names of ``ae.safetensors``."""
        return {name: tensor.contiguous() for name, tensor in self.kl.state_dict().items()}


def _per_channel(values: tuple[float, ...] | None, scalar: float) -> Tensor:
    # on the CPU also when the weights are still on the meta device: no file brings these
    return torch.tensor([scalar] if values is None else values, device="cpu").view(1, -1, 1, 1)
