"""Pretraining of the generation expert: flow matching on rendered characters, the understanding expert frozen.

The text in front of a picture is run once without gradients and shared by ``draws`` noisy versions of the picture:
that is exact, because text never sees the latents that follow it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charforge.bases.language import ensure_language_weights
from charforge.families.bagel.checkpoint import add_low_rank
from charforge.families.bagel.context import Context, empty_context, extend_context, prepare_block, velocity
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.files import write_atomic_with
from charforge.flow import interpolate, logit_normal_timesteps, stratified_normal, target_velocity
from charforge.recipe import world
from charforge.recipe.answers import fold_strength, read_averages
from charforge.recipe.autoencoder import standard_tokens
from charforge.recipe.contrast import Contrasts, contrast_loss, read_contrasts
from charforge.recipe.dataset import read_records
from charforge.recipe.drawing import FACE_BOX, TOP_BOX, Box, box_tokens, thing_boxes
from charforge.recipe.network import build_for_pretraining, match_text_scale, native_autocast
from charforge.recipe.shape import mini_config
from charforge.recipe.stages import require
from charforge.recipe.world import Look


class GenerationRecipe(BaseModel):
    """Settings of the pretraining run; the shipped weights name the values they were trained with.

    ``minutes`` of training, counted over all resumed parts, set the schedule: the same recipe fits any machine.
    Pictures with a thing or with something on the head come ``thing_weight`` and ``top_weight`` times as often as
    others: drawn evenly, after 158 thousand samples 2 % of the things and 40 % of the tops were right (docs/log.md).
    Tokens where a thing, a top or a face is asked for count ``thing_detail``, ``top_detail`` and ``face_detail`` times.
    ``contrasts`` pairs of pictures that differ in one word stand beside them in every step, at flow times from
    ``contrast_from`` to 1 (contrast.py), as the shipped weights had at the end (docs/log.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float = 75.0
    captions: int = 10
    draws: int = 3
    learning_rate: float = 1.2e-3
    warmup: int = 100
    decay_from: float = 0.5
    caption_dropout: float = 0.1
    ema: float = 0.998
    shift: float = 1.5
    thing_weight: float = 3.0
    top_weight: float = 1.5
    thing_detail: float = 1.0
    top_detail: float = 1.0
    face_detail: float = 1.0
    contrasts: int = 0
    contrast_from: float = 0.85
    seed: int = 0
    save_every: int = 150


def hide_texts(context: Context, drop: Tensor) -> Context:
    """The context with the text of the rows in ``drop`` (rows,) hidden, as if it had never been there."""
    keep = ~drop[:, None]
    positions = tuple(0 if gone else p for p, gone in zip(context.positions, drop.tolist(), strict=True))
    return Context(context.cache, context.valid & keep, context.understanding_valid & keep, positions)


def flow_loss(
    model: BagelModel, texts: list[TextSplit], x0: Tensor, weights: Tensor, drop: Tensor, draws: int, shift: float,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Weighted mean squared velocity error. x0: standardised latent tokens (captions, tokens, values), weights:
    (captions, tokens)."""
    side = int(math.sqrt(x0.shape[1]))
    with torch.no_grad():
        context = extend_context(model, empty_context(len(texts)), texts)
        context = hide_texts(context, drop).select([row for row in range(len(texts)) for _ in range(draws)])
    block = prepare_block(model, context, grid_position_ids(side, side, model.config.max_latent_size))
    x0 = x0.to(model.device).repeat_interleave(draws, 0)
    noise = torch.randn(x0.shape, generator=generator).to(model.device)
    t = logit_normal_timesteps(stratified_normal(x0.shape[0], generator), shift).to(model.device)
    x_t = interpolate(x0, noise, t[:, None].expand(-1, x0.shape[1]))
    errors = (velocity(model, block, x_t, t).float() - target_velocity(x0, noise)).pow(2).mean(-1)
    weights = weights.repeat_interleave(draws, 0).to(model.device)
    return (weights * errors).sum() / weights.sum()


def detail_weights(look: Look, caption: str, recipe: GenerationRecipe, side: int) -> np.ndarray:
    """How much each of ``side`` x ``side`` tokens counts, from what the caption says.

    Only from that: where a thing may be on either side, both sides count alike, and a thing that is not said counts
    like anything else. Weights that knew more would teach the model to draw it everywhere.
    """
    weights = np.ones(side * side, np.float32)

    def count(box: Box, times: float) -> None:
        tokens = box_tokens(box, side)
        weights[tokens] = np.maximum(weights[tokens], times)

    count(FACE_BOX, recipe.face_detail)
    if look.kind != "person":
        count(TOP_BOX, recipe.top_detail)
    if look.thing and world.THINGS[look.thing] in caption:
        for box in thing_boxes(look.side):
            count(box, recipe.thing_detail)
    return weights


def learning_rate_at(step: int, progress: float, recipe: GenerationRecipe) -> float:
    """Linear warm-up over steps, constant, then linear decay to 1 % over the rest of ``progress`` (0 to 1)."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    if progress < recipe.decay_from:
        return recipe.learning_rate
    return recipe.learning_rate * max(0.01, 1 - (progress - recipe.decay_from) / (1 - recipe.decay_from))


@dataclass(frozen=True)
class CaptionedLatents:
    """Latent tokens (n, tokens, values) as float16, several tokenised captions of each, how much each token counts
    under each caption (n, captions, tokens), and how often each picture comes (n,)."""

    tokens: np.ndarray
    captions: list[list[TextSplit]]
    details: np.ndarray
    shares: Tensor


def train_generation(
    model: BagelModel, data: CaptionedLatents, contrasts: Contrasts | None, recipe: GenerationRecipe, out: Path
) -> None:
    """Run for ``recipe.minutes``, resuming from ``out``; writes checkpoints, the EMA weights and ``log.jsonl``."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    ema = {name: p.detach().clone() for name, p in parameters.items()}
    step, trained_seconds = _resume(out, parameters, ema, optimizer)
    seen, average, contrast, began = 0, 0.0, 0.0, time.monotonic()
    while (progress := trained_seconds / (60 * recipe.minutes)) < 1:
        step_began = time.monotonic()
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        picked = torch.multinomial(data.shares, recipe.captions, replacement=True, generator=generator).tolist()
        variants = torch.randint(1 << 30, (recipe.captions,), generator=generator).tolist()
        pairs = [(i, v % len(data.captions[i])) for i, v in zip(picked, variants, strict=True)]
        texts = [data.captions[i][v] for i, v in pairs]
        weights = torch.from_numpy(np.stack([data.details[i, v] for i, v in pairs]))
        x0 = torch.from_numpy(data.tokens[sorted(set(picked))].astype(np.float32))
        order = {index: row for row, index in enumerate(sorted(set(picked)))}
        x0 = x0[[order[index] for index in picked]]
        drop = torch.rand(recipe.captions, generator=generator) < recipe.caption_dropout
        with native_autocast(model.device.type):
            loss = flow_loss(model, texts, x0, weights, drop, recipe.draws, recipe.shift, generator)
            if contrasts is not None:
                difference = contrast_loss(model, contrasts, recipe.contrasts, recipe.contrast_from, generator)
                loss = loss + difference
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, progress, recipe)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(recipe.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(ema.values()), [p.detach() for p in parameters.values()], 1 - decay)
        step += 1
        # read before the clock is: a GPU is still computing until then
        now = loss.item()
        trained_seconds += time.monotonic() - step_began
        seen += recipe.captions * recipe.draws
        if contrasts is not None:
            apart = difference.item()
            contrast = apart if contrast == 0 else 0.98 * contrast + 0.02 * apart
        average = now if average == 0 else 0.98 * average + 0.02 * now
        over = trained_seconds >= 60 * recipe.minutes
        if step % 25 == 0 or over:
            line = {
                "step": step,
                "loss": round(average, 4),
                "grad": round(norm.item(), 3),
                "lr": learning_rate_at(step, progress, recipe),
                "samples_per_s": round(seen / (time.monotonic() - began), 1),
            }
            if contrasts is not None:
                line["contrast"] = round(contrast, 4)
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        if step % recipe.save_every == 0 or over:
            _save(out, parameters, ema, optimizer, step, trained_seconds)


def _save(
    out: Path,
    parameters: dict[str, nn.Parameter],
    ema: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    state = {f"now.{name}": p.detach().cpu().contiguous() for name, p in parameters.items()}
    state |= {f"ema.{name}": p.cpu().contiguous() for name, p in ema.items()}
    for name, p in parameters.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            state[f"{key}.{name}"] = optimizer.state[p][key].cpu().contiguous()
    write_atomic_with(
        out / "checkpoint.safetensors",
        lambda path: save_file(state, path, {"step": str(step), "seconds": str(seconds)}),
    )


def _resume(
    out: Path, parameters: dict[str, nn.Parameter], ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    file = out / "checkpoint.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        return 0, 0.0
    state = load_file(file)
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(state[f"now.{name}"])
            ema[name].copy_(state[f"ema.{name}"])
            # unpacked shipped weights come without moments
            if f"step.{name}" in state:
                moments = {key: state[f"{key}.{name}"] for key in ("exp_avg", "exp_avg_sq", "step")}
                optimizer.state[p] = {key: value.to(p.device) for key, value in moments.items()}
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    return int(metadata["step"]), float(metadata["seconds"])


def prepare_generation(
    out: Path, recipe: GenerationRecipe, device: str, report: Callable[[int, int], None]
) -> tuple[BagelModel, CaptionedLatents, Contrasts | None]:
    """Model, data and contrasts (where the recipe wants some) from what the earlier stages left in ``out``.

    ``report`` is called with how many captions of contrasts are read, and of how many.
    """
    language = ensure_language_weights()
    measured = json.loads(require(out / "autoencoder" / "autoencoder.json", "autoencoder").read_text("utf-8"))
    config = mini_config(tuple(measured["latent_mean"]), tuple(measured["latent_std"]))
    tokenizer = Tokenizer(language / "tokenizer.json", config.chat_roles)
    records = read_records(out / "data" / "records.jsonl")
    captions = [[tokenizer.text(caption) for caption in record["captions"]] for record in records]
    tokens = standard_tokens(np.load(out / "autoencoder" / "latents.npy"), config)
    model = build_for_pretraining(config, language / "language.safetensors", recipe.seed, device)
    # what is drawn is read by the language model that the vision stage leaves
    add_low_rank(model, fold_strength(read_averages(out / "vision" / "checkpoint.safetensors")))
    match_text_scale(model, [variants[0] for variants in captions[:32]])
    looks = [Look(**record["look"]) for record in records]
    side = math.isqrt(tokens.shape[1])
    details = np.stack(
        [
            [detail_weights(look, caption, recipe, side) for caption in record["captions"]]
            for look, record in zip(looks, records, strict=True)
        ]
    )
    shares = [(recipe.thing_weight if look.thing else 1.0) * (recipe.top_weight if look.top else 1.0) for look in looks]
    contrasts = read_contrasts(out, model, tokenizer, report) if recipe.contrasts else None
    return model, CaptionedLatents(tokens, captions, details, torch.tensor(shares)), contrasts
