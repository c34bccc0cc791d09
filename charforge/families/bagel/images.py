"""Pixels in and out: patches and latent tokens (bagel.md sections 3 and 6)."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.sizes import resized
from charforge.families.bagel.splits import LatentSplit, LookSplit
from charforge.families.bagel.vision import patchify
from charforge.pixels import through_bytes, to_image, to_pixels, to_rgb


def patchify_latent(latent: Tensor, patch: int) -> Tensor:
    """(z, H, W) -> (H/p * W/p, p*p*z), values in (row, column, channel) order."""
    return patchify(latent, patch)


def unpatchify_latent(tokens: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    """(rows * columns, p*p*z) -> (z, rows*p, columns*p)."""
    channels = tokens.shape[1] // patch**2
    grid = tokens.view(rows, columns, patch, patch, channels)
    return grid.permute(4, 0, 2, 1, 3).reshape(channels, rows * patch, columns * patch)


def vae_pixels(image: Image.Image, config: BagelConfig) -> Tensor:
    """A picture as the autoencoder takes it."""
    size = resized(*image.size, config.image_max_size, config.image_min_size, config.latent_stride)
    return to_pixels(to_rgb(image), size)


def look_split(image: Image.Image, config: BagelConfig) -> LookSplit:
    """A picture as the vision tower takes it."""
    vision = config.vision
    size = resized(*image.size, vision.max_size, vision.min_size, vision.patch_size)
    return _look_split(to_pixels(to_rgb(image), size), config)


def look_split_of_pixels(pixels: Tensor, config: BagelConfig) -> LookSplit:
    """The same of pixels (3, H, W), as a file would keep them: a picture only where it has to be resized."""
    vision, (height, width) = config.vision, pixels.shape[1:]
    size = resized(width, height, vision.max_size, vision.min_size, vision.patch_size)
    kept = through_bytes(pixels) if size == (width, height) else to_pixels(to_image(pixels), size)
    return _look_split(kept, config)


def _look_split(pixels: Tensor, config: BagelConfig) -> LookSplit:
    vision = config.vision
    rows, columns = pixels.shape[1] // vision.patch_size, pixels.shape[2] // vision.patch_size
    ids = grid_position_ids(rows, columns, vision.patches_per_side, config.interpolate_positions)
    return LookSplit(patchify(pixels, vision.patch_size), ids)


def latent_split(latent: Tensor, config: BagelConfig, timestep: float = 0.0) -> LatentSplit:
    """(z, h, w) standardised latent as clean context (t = 0) or as a target to be noised."""
    patch = config.latent_patch_size
    rows, columns = latent.shape[1] // patch, latent.shape[2] // patch
    ids = grid_position_ids(rows, columns, config.max_latent_size, config.interpolate_positions)
    return LatentSplit(patchify_latent(latent, patch), ids, timestep)
