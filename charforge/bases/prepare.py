"""Pictures for a base: cached latents and patches, and drawing from a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from charforge.bases.base import Base
from charforge.errors import InputError
from charforge.families.bagel import images
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.context import Context, empty_context, extend_context, repeat_context
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import computes_in_bf16
from charforge.families.bagel.sampler import Guidance, draw
from charforge.families.bagel.splits import LookSplit, Split
from charforge.sample import Picture, Target
from charforge.settings import PictureSettings


def middle_square(image: Image.Image) -> Image.Image:
    """The largest square around the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def sized(base: Base, pictures: PictureSettings) -> Base:
    """The base with the settings' sizes instead of its own. Raises InputError for sizes that it cannot draw."""
    config, sampling = base.config, base.config.sampling
    side = pictures.draw_side
    if side is not None and (side % config.latent_stride or side // config.latent_stride > config.max_latent_size):
        largest = config.latent_stride * config.max_latent_size
        raise InputError(
            f"pictures.draw_side = {side}: this base draws multiples of {config.latent_stride} up to {largest}"
        )
    sizes = {"height": side or sampling.height, "width": side or sampling.width}
    base.model.config = config.model_copy(
        update={
            "image_max_size": pictures.longest_side or config.image_max_size,
            "image_min_size": pictures.shortest_side or config.image_min_size,
            "sampling": sampling.model_copy(update=sizes | {"steps": pictures.draw_steps or sampling.steps}),
        }
    )
    return base


def park_encoders(base: Base) -> None:
    """Autoencoder and vision tower go to the CPU until :func:`at_work` needs them: a gigabyte of a small GPU."""
    for module in _encoders(base):
        module.to("cpu")


def _encoders(base: Base) -> tuple[torch.nn.Module, ...]:
    return base.autoencoder, base.model.vit_model, base.model.connector, base.model.vit_pos_embed


@contextmanager
def at_work(base: Base) -> Iterator[None]:
    """Autoencoder and vision tower stand beside the decoder inside the block, and go back to where they were."""
    homes = [next(module.parameters()).device for module in _encoders(base)]
    for module in _encoders(base):
        module.to(base.model.device)
    try:
        yield
    finally:
        for module, home in zip(_encoders(base), homes, strict=True):
            module.to(home)


@torch.no_grad()
def prepare_picture(base: Base, image: Image.Image) -> Picture:
    """Encode a picture once: the posterior mean as drawing target, and what the vision tower sees."""
    config = base.config
    image = images.to_rgb(image)
    if config.square_images:
        image = middle_square(image)
    with at_work(base):
        latent = base.autoencoder.encode(images.vae_pixels(image, config)[None].to(base.model.device))[0].cpu()
    split = images.latent_split(latent, config)
    return Picture(Target(split.tokens, split.position_ids), seen(base, images.look_split(image, config)))


@torch.no_grad()
def seen(base: Base, look: LookSplit) -> LookSplit:
    """The same with what the frozen vision tower makes of it, computed once."""
    model, device = base.model, base.model.device
    with at_work(base), torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        patches, ids = look.patches.to(device), look.position_ids.to(device)
        return replace(look, features=model.look(patches, ids, [len(ids)]).cpu())


def drawing_grid(config: BagelConfig) -> tuple[int, int]:
    """Rows and columns of latent tokens of a drawing."""
    return config.sampling.height // config.latent_stride, config.sampling.width // config.latent_stride


def drawing_positions(base: Base) -> Tensor:
    """Table rows of the latent tokens of a drawing (tokens,)."""
    config = base.config
    return grid_position_ids(*drawing_grid(config), config.max_latent_size, config.interpolate_positions)


def initial_noise(base: Base, count: int, seed: int) -> Tensor:
    """(count, tokens, values) standard normal from the CPU generator, picture n from seed + n."""
    config = base.config
    rows, columns = drawing_grid(config)
    tokens = rows * columns
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
    latents = _draw_latents(base, context, seeds)
    return [images.to_image(picture) for picture in decode_latents(base, latents)]


def _draw_latents(base: Base, context: Context, seeds: list[int]) -> Tensor:
    noise = torch.cat([initial_noise(base, 1, seed) for seed in seeds]).to(base.model.device)
    guidance = Guidance(full=context, without_text=empty_context(len(seeds)), without_images=context)
    return draw(base.model, guidance, noise, drawing_positions(base), base.config.sampling)


@torch.no_grad()
def draw_target(base: Base, prompt: str, seed: int) -> Target:
    """What the base draws for ``prompt``, as something to learn to draw: never decoded."""
    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        context = extend_context(base.model, empty_context(), [base.tokenizer.text(prompt)])
        return Target(_draw_latents(base, context, [seed])[0].cpu(), drawing_positions(base))


@torch.no_grad()
def decode_target(base: Base, target: Target) -> Tensor:
    """A prepared picture as the autoencoder gives it back: pixels (3, H, W) in [-1, 1]."""
    side, patch = base.config.max_latent_size, base.config.latent_patch_size
    rows, columns = int(target.position_ids.max()) // side + 1, int((target.position_ids % side).max()) + 1
    latent = images.unpatchify_latent(target.x0, rows, columns, patch)
    with at_work(base):
        return base.autoencoder.decode(latent[None].to(base.model.device))[0]


@torch.no_grad()
def decode_latents(base: Base, latents: Tensor) -> Tensor:
    """Latent tokens (n, tokens, values) of one size, that of ``base``'s drawings, -> pixels (n, 3, H, W) in [-1, 1]."""
    rows, columns = drawing_grid(base.config)
    decoded = []
    with at_work(base):
        # one by one: a picture of 1024 pixels a side takes two gigabytes on its way
        for tokens in latents:
            latent = images.unpatchify_latent(tokens, rows, columns, base.config.latent_patch_size)
            decoded.append(base.autoencoder.decode(latent[None].to(base.model.device))[0])
    return torch.stack(decoded)


def contact_sheet(pictures: list[Image.Image], columns: int, cell: int = 128) -> Image.Image:
    """Pictures in rows on white."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), (255, 255, 255))
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((cell, cell)), ((index % columns) * cell, (index // columns) * cell))
    return sheet
