"""Pretraining of the image autoencoder on drawings and photographs.

The latent is held near zero mean and unit variance per channel by a moment penalty instead of a KL term, so the flow
sees well-scaled values; a little latent noise makes the decoder forgiving. Crops of 64 pixels carry most of training,
whole pictures the rest: statistics and decoder must fit whole pictures (mini-feasibility.md, pitfall 1).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from charforge.families.bagel.autoencoder import Autoencoder
from charforge.families.bagel.config import AutoencoderConfig, BagelConfig
from charforge.files import write_atomic, write_atomic_with
from charforge.recipe.network import native_autocast
from charforge.recipe.stages import require


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Settings of the run."""

    steps: int = 4500
    batch: int = 32
    crop: int = 64
    photo_share: float = 0.3
    learning_rate: float = 2e-3
    latent_noise: float = 0.05
    moment_weight: float = 0.05
    edge_weight: float = 0.5
    ema: float = 0.998
    seed: int = 0
    save_every: int = 500
    decoder_only: bool = False


def sharpening_recipe(steps: int) -> AutoencoderRecipe:
    """The decoder alone, for fewer errors of a pixel: latents, and what was trained on them, stay valid."""
    return AutoencoderRecipe(
        steps=steps, photo_share=0.2, learning_rate=1e-3, latent_noise=0.03, edge_weight=0.1, decoder_only=True
    )


def load_photos(held_out: bool) -> list[Tensor]:
    """Photographs that come with scikit-image, (3, H, W) in 0..255; two are kept for judging."""
    from skimage import data

    names = ["coffee", "chelsea"]
    if not held_out:
        names = ["astronaut", "rocket", "stereo_motorcycle", "retina", "hubble_deep_field", "grass", "gravel", "brick"]
    photos = []
    for name in names:
        loaded = getattr(data, name)()
        array = np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded)
        if array.ndim == 2:
            array = np.repeat(array[..., None], 3, axis=2)
        photos.append(torch.from_numpy(array[..., :3].copy()).permute(2, 0, 1))
    return photos


def photo_crops(photos: list[Tensor], count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random resized, flipped, tinted crops (count, 3, size, size) in 0..1."""
    crops = []
    for _ in range(count):
        draw = torch.rand(7, generator=generator)
        photo = photos[int(draw[0] * len(photos))]
        # from a crop at full detail to the whole picture, as a user's picture scaled to 128 pixels would look
        side = int(size + float(draw[1]) ** 2 * (min(photo.shape[1:]) - size))
        top = int(draw[2] * (photo.shape[1] - side + 1))
        left = int(draw[3] * (photo.shape[2] - side + 1))
        crop = photo[None, :, top : top + side, left : left + side].float() / 255
        crop = F.interpolate(crop, (size, size), mode="area")[0] if side > size else crop[0]
        if draw[4] < 0.5:
            crop = crop.flip(-1)
        if draw[5] < 0.5:
            # other colours: few photographs must stand for many
            tint = 0.6 + 0.8 * torch.rand(3, 1, 1, generator=generator)
            crop = (crop[torch.randperm(3, generator=generator)] * tint).clamp(0, 1)
        crops.append(crop)
    return torch.stack(crops)


def random_crops(pictures: np.ndarray, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops of pictures (n, H, W, 3), (count, 3, size, size) in 0..1."""
    crops = []
    span = pictures.shape[1] - size + 1
    for _ in range(count):
        index, top, left, flip = torch.rand(4, generator=generator)
        y, x = int(top * span), int(left * span)
        crop = torch.from_numpy(pictures[int(index * len(pictures)), y : y + size, x : x + size].copy())
        crop = crop.permute(2, 0, 1).float() / 255
        crops.append(crop.flip(-1) if flip < 0.5 else crop)
    return torch.stack(crops)


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(out: Tensor, pixels: Tensor, edge_weight: float) -> Tensor:
    """Absolute error plus absolute error of edges, plus a little squared error for PSNR."""
    loss = (out - pixels).abs().mean() + (out - pixels).pow(2).mean()
    for ours, theirs in zip(edges(out), edges(pixels), strict=True):
        loss = loss + edge_weight * (ours - theirs).abs().mean()
    return loss


def train_autoencoder(pictures: np.ndarray, recipe: AutoencoderRecipe, out: Path) -> None:
    """Run to ``recipe.steps``, resuming from ``out``. Writes ``checkpoint.safetensors`` and ``log.jsonl``."""
    torch.manual_seed(recipe.seed)
    model = Autoencoder(_config())
    parameters = dict(model.kl.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(not recipe.decoder_only or name.startswith("decoder."))
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    out.mkdir(parents=True, exist_ok=True)
    step = _resume(out / "checkpoint.safetensors", parameters, ema, optimizer)
    # drawn once: cutting large photographs in every step would cost as much as training on them
    pool = photo_crops(load_photos(held_out=False), 3000, pictures.shape[1], torch.Generator().manual_seed(recipe.seed))
    photos = (pool * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    began, average = time.time(), 0.0
    start = step
    while step < recipe.steps:
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        # every fifth step on whole pictures
        size, batch = (pictures.shape[1], recipe.batch // 4) if step % 5 == 4 else (recipe.crop, recipe.batch)
        from_photos = int(batch * recipe.photo_share)
        pixels = torch.cat(
            [
                random_crops(pictures, batch - from_photos, size, generator),
                random_crops(photos, from_photos, size, generator),
            ]
        )
        pixels = pixels * 2 - 1
        with native_autocast("cpu"):
            mean = model.moments(pixels).chunk(2, dim=1)[0].float()
            noise = torch.randn(mean.shape, generator=generator) * recipe.latent_noise
            decoded = model.decode_raw(mean + noise).float()
        channel_mean, channel_std = mean.mean((0, 2, 3)), mean.std((0, 2, 3))
        moments = channel_mean.pow(2).mean() + (channel_std - 1).pow(2).mean()
        loss = reconstruction_loss(decoded, pixels, recipe.edge_weight) + recipe.moment_weight * moments
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        rate = recipe.learning_rate * min(1.0, (step + 1) / 100) * max(0.005, min(1.0, 2 * (1 - step / recipe.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(recipe.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in parameters.values()], 1 - decay)
        step += 1
        mse = (decoded - pixels).detach().pow(2).mean().item() / 4
        average = mse if average == 0 else 0.98 * average + 0.02 * mse
        if step % 50 == 0:
            line = {"step": step, "psnr": round(-10 * float(np.log10(average)), 2), "moments": round(moments.item(), 4),
                    "steps_per_s": round((step - start) / (time.time() - began), 2)}  # fmt: skip
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        if step % recipe.save_every == 0 or step == recipe.steps:
            _save(out / "checkpoint.safetensors", parameters, ema, optimizer, step)


def _config() -> AutoencoderConfig:
    from charforge.recipe.shape import mini_config

    zeros, ones = (0.0,) * 16, (1.0,) * 16
    return mini_config(zeros, ones).autoencoder


def _save(path: Path, parameters: dict, ema: dict, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {f"now.{n}": p.detach().contiguous() for n, p in parameters.items()}
    state |= {f"ema.{n}": p.contiguous() for n, p in ema.items()}
    for n, p in parameters.items():
        state |= {f"{key}.{n}": value.contiguous() for key, value in optimizer.state.get(p, {}).items()}
    write_atomic_with(path, lambda temporary: save_file(state, temporary, {"step": str(step)}))


def _resume(path: Path, parameters: dict, ema: dict, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = load_file(path)
    with torch.no_grad():
        for n, p in parameters.items():
            p.copy_(state[f"now.{n}"])
            ema[n].copy_(state[f"ema.{n}"])
            # unpacked shipped weights come without moments
            if f"step.{n}" in state:
                optimizer.state[p] = {key: state[f"{key}.{n}"] for key in ("exp_avg", "exp_avg_sq", "step")}
    with safe_open(path, framework="pt") as opened:
        return int(opened.metadata()["step"])


def load_trained(out: Path) -> Autoencoder:
    """The averaged weights of the run in ``out``, not yet standardised."""
    model = Autoencoder(_config())
    state = load_file(require(out / "checkpoint.safetensors", "autoencoder"))
    model.kl.load_state_dict({n.removeprefix("ema."): t for n, t in state.items() if n.startswith("ema.")})
    return model.eval().requires_grad_(False)


@torch.no_grad()
def encode_all(model: Autoencoder, pictures: np.ndarray, device: str = "cpu", batch: int = 64) -> np.ndarray:
    """Latent means (n, z, h, w) as float16, before standardising. ``model`` is moved to ``device``."""
    model.to(device)
    parts = []
    for start in range(0, len(pictures), batch):
        pixels = torch.from_numpy(np.array(pictures[start : start + batch])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with native_autocast(device):
            mean = model.moments(pixels.to(device)).chunk(2, dim=1)[0]
        parts.append(mean.to(torch.float16).cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def psnr(model: Autoencoder, pixels: Tensor) -> float:
    """Mean PSNR in dB over pictures (n, 3, H, W) in 0..1."""
    out = model.decode(model.encode(pixels * 2 - 1)).clamp(-1, 1) / 2 + 0.5
    return float((-10 * (out - pixels).pow(2).mean((1, 2, 3)).log10()).mean())


def finish(out: Path, pictures: np.ndarray, held_out: np.ndarray, device: str = "cpu") -> dict[str, object]:
    """Measure, standardise and write ``autoencoder.safetensors`` (fp16), ``autoencoder.json`` and ``latents.npy``.

    Pictures are encoded on ``device``.
    """
    model = load_trained(out)
    drawings = torch.from_numpy(held_out[:128]).permute(0, 3, 1, 2).float() / 255
    photos = photo_crops(load_photos(held_out=True), 64, pictures.shape[1], torch.Generator().manual_seed(7))
    latents = encode_all(model, pictures, device)
    model.to("cpu")
    wide = latents.astype(np.float32)
    report = {
        "psnr_drawings": round(psnr(model, drawings), 2),
        "psnr_photos": round(psnr(model, photos), 2),
        "latent_mean": [round(float(v), 5) for v in wide.mean((0, 2, 3))],
        "latent_std": [round(float(v), 5) for v in wide.std((0, 2, 3))],
    }
    state = {name: tensor.half() for name, tensor in model.official_state().items()}
    write_atomic_with(out / "autoencoder.safetensors", lambda path: save_file(state, path, {"format": "pt"}))
    np.save(out / "latents.npy", latents)
    write_atomic(out / "autoencoder.json", json.dumps(report, indent=2))
    return report


def standard_tokens(latents: np.ndarray, config: BagelConfig) -> np.ndarray:
    """Raw latent means (n, z, h, w) -> standardised tokens (n, tokens, values) as float16."""
    auto, patch = config.autoencoder, config.latent_patch_size
    assert auto.latent_mean is not None and auto.latent_std is not None
    mean, std = np.array(auto.latent_mean, np.float32), np.array(auto.latent_std, np.float32)
    wide = (latents.astype(np.float32) - mean[:, None, None]) / std[:, None, None]
    n, z, h, w = wide.shape
    grid = wide.reshape(n, z, h // patch, patch, w // patch, patch).transpose(0, 2, 4, 3, 5, 1)
    return grid.reshape(n, (h // patch) * (w // patch), patch * patch * z).astype(np.float16)
