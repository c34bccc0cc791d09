"""Pretraining of the vision tower and connector, and of a small adapter on the language model.

First the connector's outputs are taught to point at word embeddings: for each attribute a learned query pools them and
the pooled vector must be nearest to the embedding of the true word. That is hundreds of times cheaper than training
through the language model and already speaks its language. Then questions are answered through the model (answers.py),
while words go on beside: they see six times the pictures at a tenth of the cost.
"""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import compute_dtype
from charforge.bases.can_draw import KIND_NOUN
from charforge.bases.language import ensure_language_weights
from charforge.families.bagel.layers import sincos_table
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.splits import LookSplit, TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.files import write_atomic_with
from charforge.recipe import captions, world
from charforge.recipe.answers import (
    ALPHA,
    RANK,
    Pictures,
    answer_accuracy,
    answers_loss,
    drift_loss,
    load_own_texts,
    question_sample,
    read_pictures,
    rival_samples,
)
from charforge.recipe.network import build_for_pretraining, native_autocast
from charforge.recipe.shape import mini_config
from charforge.recipe.world import Look

HARD = ("thing", "top", "mouth")
"""The attributes that are small in a picture."""


class VisionRecipe(BaseModel):
    """Settings; ``minutes`` over all resumed parts, ``words_share`` of them for the first stage.

    ``rivals`` pairs of pictures of one character that differ in expression, clothes and thing are asked the same
    questions in every step. Pictures with a thing come ``thing_weight`` times as often as others, and what is read
    worst (``HARD``) counts ``hard_words`` times among words: with 1 for both, after 2,610 steps 1 of 66 things was
    named (docs/log.md). ``drift_texts`` of ``own_texts`` conversations, which the bare language model made up, hold its
    talk in place in every step. With ``reading=false`` the addition to the language model stays as it is: then drawing
    weights that were trained on it stay good, and talk stays the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    minutes: float = 90.0
    words_share: float = 0.1
    words_batch: int = 32
    words_beside: int = 16
    words_weight: float = 0.5
    thing_weight: float = 2.5
    hard_words: float = 3.0
    answers_batch: int = 4
    rivals: int = 1
    reading: bool = True
    questions: int = 7
    own_texts: int = 256
    drift_texts: int = 3
    drift_weight: float = 2.0
    learning_rate: float = 5e-4
    decay: float = 0.4
    judge_every: float = 600.0
    ema: float = 0.995
    seed: int = 0
    save_every: int = 100


def learns_to_see(name: str) -> bool:
    """Whether a parameter belongs to the vision side; its position table is fixed."""
    return name.startswith(("vit_model.", "connector."))


def words_of(look: Look) -> dict[str, str]:
    """The attributes a picture can be asked for, in words."""
    mouth, eyes = captions.mood_phrase(look)
    words = {
        "kind": KIND_NOUN[look.kind],
        "where": captions.place_phrase(look),
        "mouth": mouth,
        "thing": world.THINGS[look.thing] if look.thing else "nothing",
        "color": look.outfit_color or look.body_color,
    }
    if not captions.hides_eyes(look):
        words["eyes"] = eyes
    if look.top:
        words["top"] = world.CREATURE_TOPS[look.kind][look.top]
    if look.kind == "person":
        words["outfit"] = " ".join(world.OUTFITS[look.outfit][1].replace("{}", "").split())
        words["style"] = " ".join((world.HATS | world.HAIR_STYLES)[look.hair].replace("{}", "").split())
        words |= {"hair": look.hair_color, "skin": look.skin, "glasses": world.GLASSES.get(look.glasses, "no glasses")}
    return words


class WordReader(nn.Module):
    """One query per attribute pools the connector's outputs; logits are cosines with fixed word embeddings."""

    def __init__(self, values: dict[str, list[str]], embed: Tensor, tokenizer: Tokenizer) -> None:
        super().__init__()
        width = embed.shape[1]
        self.values = values
        self.queries = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in values})
        self.scale = nn.Parameter(torch.tensor(10.0))
        for name, words in values.items():
            rows = torch.stack([embed[tokenizer.encode(" " + word)].float().mean(0) for word in words])
            # what all words share says nothing about which one it is
            self.register_buffer(f"words_{name}", F.normalize(rows - rows.mean(0), dim=-1))

    def forward(self, features: Tensor, name: str) -> Tensor:
        """(pictures, tokens, width) -> logits (pictures, values of ``name``)."""
        weights = (features @ self.queries[name] / math.sqrt(features.shape[-1]) * 8).softmax(-1)
        pooled = (weights[..., None] * features).sum(1)
        return self.scale * F.normalize(pooled, dim=-1) @ self.get_buffer(f"words_{name}").T


def features_of(model: BagelModel, looks: list[LookSplit]) -> Tensor:
    """(pictures, tokens, understanding width) for pictures of one size."""
    ids = torch.cat([look.position_ids for look in looks])
    lengths = [look.position_ids.shape[0] for look in looks]
    features = model.vit_model(torch.cat([look.patches for look in looks]), ids, lengths)
    return (model.connector(features) + model.vit_pos_embed(ids)).unflatten(0, (len(looks), lengths[0]))


def words_loss(model: BagelModel, reader: WordReader, data: Pictures, indices: list[int], hard: float) -> Tensor:
    """Mean cross-entropy over the attributes of the chosen pictures; those in ``HARD`` count ``hard`` times."""
    vision = model.config.vision
    features = features_of(
        model, [data.look_split(i, vision.patch_size, vision.patches_per_side) for i in indices]
    ).float()
    known = [words_of(Look(**data.records[i]["look"])) for i in indices]
    losses, weights = [], []
    for name, values in reader.values.items():
        rows = [row for row, words in enumerate(known) if name in words]
        if rows:
            targets = torch.tensor([values.index(known[row][name]) for row in rows])
            losses.append(F.cross_entropy(reader(features[rows], name), targets))
            weights.append(hard if name in HARD else 1.0)
    return (torch.stack(losses) * torch.tensor(weights)).sum() / sum(weights)


def train_vision(out: Path, recipe: VisionRecipe) -> dict[str, Any]:
    """Both stages, resuming from ``out/vision``; returns the held-out accuracy.

    Raises InputError when nothing was rendered.
    """
    folder, (data, held_out) = out / "vision", read_pictures(out)
    folder.mkdir(parents=True, exist_ok=True)
    zeros, ones = (0.0,) * 16, (1.0,) * 16
    config, language = mini_config(zeros, ones), ensure_language_weights()
    tokenizer = Tokenizer(language / "tokenizer.json", config.chat_roles)
    # nothing that draws learns here, and decoding wants one precision
    model = build_for_pretraining(config, language / "language.safetensors", recipe.seed).to(compute_dtype("cpu"))
    texts: list[list[TextSplit]] = []
    if recipe.reading:
        texts = load_own_texts(model, tokenizer, folder / "own_texts.jsonl", recipe.seed, recipe.own_texts)
    add_adapter(model, lora_config(config, RANK, ALPHA, roles=("text",)), recipe.seed)
    _fresh_vision(model, recipe.seed)
    torch.manual_seed(recipe.seed)
    reader = WordReader(word_values(data), model.language_model.model.embed_tokens.weight, tokenizer)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parameters |= {f"reader.{name}": p for name, p in reader.named_parameters()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    ema = {name: p.detach().clone() for name, p in parameters.items() if not name.startswith("reader.")}
    step, seconds = _resume(folder, parameters, ema, optimizer)
    for name, parameter in parameters.items():
        if ".lora_" in name:
            parameter.requires_grad_(recipe.reading)
    prefix, judged = len(tokenizer.role_prefix("assistant")), seconds
    averages: dict[str, float] = {}
    pictures = range(len(data.records))
    shares = [recipe.thing_weight if record["look"].get("thing") else 1.0 for record in data.records]
    while (progress := seconds / (60 * recipe.minutes)) < 1:
        began = time.monotonic()
        rng = random.Random(f"{recipe.seed}:{step}")
        answering = progress >= recipe.words_share
        with native_autocast("cpu"):
            size = recipe.words_beside if answering else recipe.words_batch
            shown = rng.choices(pictures, shares, k=size)
            losses = {"words": words_loss(model, reader, data, shown, recipe.hard_words)}
            if answering:
                indices = rng.choices(pictures, shares, k=recipe.answers_batch)
                samples = [question_sample(model, tokenizer, data, i, recipe.questions, rng) for i in indices]
                for _ in range(recipe.rivals):
                    samples += rival_samples(model, tokenizer, rng)
                losses["answers"] = answers_loss(model, samples, prefix)
                if recipe.reading:
                    losses["drift"] = drift_loss(model, rng.sample(texts, recipe.drift_texts))
        weights = {"words": recipe.words_weight, "answers": 1.0, "drift": recipe.drift_weight}
        torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, progress, recipe)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(recipe.ema, (1 + step) / (10 + step))
        for name, mean in ema.items():
            mean.lerp_(parameters[name].detach(), 1 - decay)
        step += 1
        for name, loss in losses.items():
            averages[name] = 0.97 * averages.get(name, loss.item()) + 0.03 * loss.item()
        seconds += time.monotonic() - began
        if step % 25 == 0:
            rounded = {name: round(value, 4) for name, value in averages.items()}
            _log(folder, {"step": step, "seconds": round(seconds), **rounded})
        if answering and seconds - judged > recipe.judge_every:
            judged = seconds
            _log(folder, {"step": step, **answer_accuracy(model, tokenizer, held_out, 24)})
        if step % recipe.save_every == 0 or seconds >= 60 * recipe.minutes:
            _save(folder, parameters, ema, optimizer, step, seconds)
    with torch.no_grad():
        for name, mean in ema.items():
            parameters[name].copy_(mean)
    result = answer_accuracy(model, tokenizer, held_out, 100)
    _log(folder, {"step": step, **result})
    return result


def learning_rate_at(step: int, progress: float, recipe: VisionRecipe) -> float:
    """Warm-up over 100 steps, constant, linear decay to 2 % over the last ``decay`` of the time."""
    return recipe.learning_rate * min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / recipe.decay))


def word_values(data: Pictures) -> dict[str, list[str]]:
    """The values of every attribute, in the order in which the records show them."""
    values: dict[str, list[str]] = {}
    for record in data.records[:4000]:
        for name, word in words_of(Look(**record["look"])).items():
            if word not in values.setdefault(name, []):
                values[name].append(word)
    return values


def _fresh_vision(model: BagelModel, seed: int) -> None:
    """Random vision weights in fp32, trainable; the connector's output starts at the scale of word embeddings."""
    generator = torch.Generator().manual_seed(seed + 1)
    scale = model.language_model.model.embed_tokens.weight.float().pow(2).mean().sqrt()
    for name, parameter in model.named_parameters():
        if name == "vit_pos_embed.pos_embed":
            side = model.config.vision.patches_per_side
            parameter.data = sincos_table(side, parameter.shape[1])
        if not learns_to_see(name):
            continue
        if parameter.ndim == 2:
            data = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[1])
            data = data * (0.5 if "position_embedding" in name else scale if name == "connector.fc2.weight" else 1.0)
        else:
            data = torch.ones(parameter.shape) if "norm" in name and "weight" in name else torch.zeros(parameter.shape)
        parameter.data = data
        parameter.requires_grad_(True)


def _log(folder: Path, line: dict[str, Any]) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _save(
    folder: Path, parameters: dict[str, nn.Parameter], ema: dict[str, Tensor], optimizer: torch.optim.Optimizer,
    step: int, seconds: float,
) -> None:  # fmt: skip
    state = {f"now.{n}": p.detach().contiguous() for n, p in parameters.items()}
    state |= {f"ema.{n}": t.contiguous() for n, t in ema.items()}
    for n, p in parameters.items():
        state |= {f"{key}.{n}": value.contiguous() for key, value in optimizer.state[p].items()}
    metadata = {"step": str(step), "seconds": str(seconds)}
    write_atomic_with(folder / "checkpoint.safetensors", lambda path: save_file(state, path, metadata))


def _resume(
    folder: Path, parameters: dict[str, nn.Parameter], ema: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    file = folder / "checkpoint.safetensors"
    if not file.exists():
        return 0, 0.0
    state = load_file(file)
    with torch.no_grad():
        for n, p in parameters.items():
            if n.startswith("reader.") and f"now.{n}" not in state:
                continue  # unpacked shipped weights come without: it only helps to train
            p.copy_(state[f"now.{n}"])
            moments = {key: state[f"{key}.{n}"] for key in ("exp_avg", "exp_avg_sq", "step") if f"{key}.{n}" in state}
            if moments:
                optimizer.state[p] = moments
        for n, mean in ema.items():
            mean.copy_(state[f"ema.{n}"])
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    return int(metadata["step"]), float(metadata["seconds"])
