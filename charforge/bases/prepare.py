"""Pictures for a base: cached latents and patches, and drawing from a prompt."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from charforge.bagel import images
from charforge.bagel.context import Context, empty_context, extend_context, repeat_context
from charforge.bagel.layers import grid_position_ids
from charforge.bagel.model import computes_in_bf16
from charforge.bagel.packing import Split
from charforge.bagel.sampler import Guidance, draw
from charforge.bases.base import Base
from charforge.sample import Picture, Target


def middle_square(image: Image.Image) -> Image.Image:
    """The largest square around the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


@torch.no_grad()
def prepare_picture(base: Base, image: Image.Image) -> Picture:
    """Encode a picture once: the posterior mean as drawing target, patches for looking."""
    config = base.config
    image = images.to_rgb(image)
    if config.square_images:
        image = middle_square(image)
    latent = base.autoencoder.encode(images.vae_pixels(image, config)[None].to(base.model.device))[0].cpu()
    split = images.latent_split(latent, config)
    return Picture(Target(split.tokens, split.position_ids), images.look_split(image, config))


def initial_noise(base: Base, count: int, seed: int) -> Tensor:
    """(count, tokens, values) standard normal from the CPU generator, picture n from seed + n."""
    config = base.config
    sampling = config.sampling
    tokens = (sampling.height // config.latent_stride) * (sampling.width // config.latent_stride)
    draws = [
        torch.randn(tokens, config.latent_token_size, generator=torch.Generator().manual_seed(seed + index))
        for index in range(count)
    ]
    return torch.stack(draws)


@torch.no_grad()
def draw_prompts(base: Base, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
    """One picture a prompt with the base's own sampling settings; the adapter in the model acts if it is on."""
    splits: list[Split] = [base.tokenizer.text(prompt) for prompt in prompts]
    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        return _draw(base, extend_context(base.model, empty_context(len(prompts)), splits), seeds)


@torch.no_grad()
def draw_many(base: Base, prompt: str, seed: int, count: int) -> list[Image.Image]:
    """``count`` pictures of one prompt, which is read once; seeds are seed, seed + 1, ..."""
    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        context = extend_context(base.model, empty_context(), [base.tokenizer.text(prompt)])
        return _draw(base, repeat_context(context, count), [seed + index for index in range(count)])


def _draw(base: Base, context: Context, seeds: list[int]) -> list[Image.Image]:
    config, sampling = base.config, base.config.sampling
    rows, columns = sampling.height // config.latent_stride, sampling.width // config.latent_stride
    ids = grid_position_ids(rows, columns, config.max_latent_size, config.interpolate_positions)
    noise = torch.cat([initial_noise(base, 1, seed) for seed in seeds]).to(base.model.device)
    guidance = Guidance(full=context, without_text=empty_context(len(seeds)), without_images=context)
    latents = draw(base.model, guidance, noise, ids, sampling)
    return [images.to_image(picture) for picture in decode_latents(base, latents)]


@torch.no_grad()
def decode_target(base: Base, target: Target) -> Tensor:
    """A prepared picture as the autoencoder gives it back: pixels (3, H, W) in [-1, 1]."""
    side, patch = base.config.max_latent_size, base.config.latent_patch_size
    rows, columns = int(target.position_ids.max()) // side + 1, int((target.position_ids % side).max()) + 1
    latent = images.unpatchify_latent(target.x0, rows, columns, patch)
    return base.autoencoder.decode(latent[None].to(base.model.device))[0]


@torch.no_grad()
def decode_latents(base: Base, latents: Tensor) -> Tensor:
    """Latent tokens (n, tokens, values) of one size, that of ``base``'s drawings, -> pixels (n, 3, H, W) in [-1, 1]."""
    config, sampling = base.config, base.config.sampling
    rows, columns = sampling.height // config.latent_stride, sampling.width // config.latent_stride
    decoded = []
    for tokens in latents:
        latent = images.unpatchify_latent(tokens.to(base.model.device), rows, columns, config.latent_patch_size)
        decoded.append(base.autoencoder.decode(latent[None])[0])
    return torch.stack(decoded)


def contact_sheet(pictures: list[Image.Image], columns: int, cell: int = 128) -> Image.Image:
    """Pictures in rows on white."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), (255, 255, 255))
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((cell, cell)), ((index % columns) * cell, (index // columns) * cell))
    return sheet
