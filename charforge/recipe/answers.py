"""Questions about pictures, answered through the language model, and what keeps its ordinary talk as it was.

A frozen SmolLM2-135M cannot compare what it sees with what it is asked: 1,500 steps through it left yes/no at chance
(docs/log.md). A rank-8 adapter on its linears learns that; it ships merged into the base. So that nobody else notices,
its predictions on texts that the bare model wrote itself are held to the bare model's.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.decode import generate_text
from charforge.families.bagel.layers import grid_position_ids
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.packing import pack
from charforge.families.bagel.splits import LookSplit, Split, TextSplit
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.bagel.vision import patchify
from charforge.files import write_atomic
from charforge.low_rank import adapter_off
from charforge.recipe.asking import questions, rival, rival_questions
from charforge.recipe.dataset import SIZE, read_records
from charforge.recipe.drawing import draw
from charforge.recipe.network import native_autocast
from charforge.recipe.stages import require
from charforge.recipe.world import Look, random_look, random_scene

RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class Pictures:
    """Pixels (n, H, W, 3) with their records."""

    pixels: np.ndarray
    records: list[dict[str, Any]]

    def look_split(self, index: int, patch: int, side: int) -> LookSplit:
        """One picture as the vision tower takes it."""
        return _look_split(self.pixels[index], patch, side)


def read_pictures(out: Path) -> tuple[Pictures, Pictures]:
    """Training and held-out renders. Raises InputError when nothing was rendered."""
    data = out / "data"
    training = Pictures(
        np.load(require(data / "images.npy", "render"), mmap_mode="r"), read_records(data / "records.jsonl")
    )
    return training, Pictures(np.load(data / "held_out.npy"), read_records(data / "held_out.jsonl"))


def _look_split(pixels: np.ndarray, patch: int, side: int) -> LookSplit:
    """Pixels (H, W, 3) from 0 to 255 as the vision tower takes them."""
    values = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1
    count = values.shape[1] // patch
    return LookSplit(patchify(values, patch), grid_position_ids(count, count, side))


def _exchange(tokenizer: Tokenizer, question: str, answer: str) -> tuple[TextSplit, TextSplit]:
    return tokenizer.text(question, "user"), tokenizer.text(answer, "assistant", loss=True)


def question_sample(
    model: BagelModel, tokenizer: Tokenizer, data: Pictures, index: int, count: int, rng: random.Random
) -> list[Split]:
    """A picture followed by ``count`` of its questions with supervised answers."""
    vision = model.config.vision
    sample: list[Split] = [data.look_split(index, vision.patch_size, vision.patches_per_side)]
    asked = questions(Look(**data.records[index]["look"]), rng)
    for question, answer in rng.sample(asked, min(count, len(asked))):
        sample += _exchange(tokenizer, question, answer)
    return sample


def rival_samples(model: BagelModel, tokenizer: Tokenizer, rng: random.Random) -> list[list[Split]]:
    """A new picture with a thing, which is read worst, and its rival, each followed by the same questions with their
    supervised answers."""
    one = random_look(rng)
    while not one.thing:
        one = random_scene(rng, one)
    looks, vision = (one, rival(one, rng)), model.config.vision
    samples: list[list[Split]] = [
        [_look_split(np.asarray(draw(look, SIZE)), vision.patch_size, vision.patches_per_side)] for look in looks
    ]
    for asked in rival_questions(*looks, rng):
        for sample, exchange in zip(samples, asked, strict=True):
            sample += _exchange(tokenizer, *exchange)
    return samples


def answers_loss(model: BagelModel, samples: list[list[Split]], prefix: int) -> Tensor:
    """Cross-entropy of the answers; the role line before each answer (``prefix`` tokens) is given, not asked."""
    batch = pack(samples, model.config)
    logits = model(batch).logits.float()
    keep = torch.ones(len(batch.labels), dtype=torch.bool)
    start = 0
    for sample in samples:
        for split in sample:
            if isinstance(split, TextSplit) and split.loss:
                keep[start : start + prefix] = False
                start += len(split.ids) + 1
    return F.cross_entropy(logits[keep], batch.labels[keep])


def drift_loss(model: BagelModel, texts: list[list[TextSplit]]) -> Tensor:
    """KL divergence in nats per token of the model's predictions on ``texts`` from those of the bare model."""
    batch = pack(texts, model.config)
    with torch.no_grad(), adapter_off(model):
        bare = model(batch).logits.float().log_softmax(-1)
    now = model(batch).logits.float().log_softmax(-1)
    return F.kl_div(now, bare, reduction="batchmean", log_target=True)


@torch.no_grad()
def load_own_texts(model: BagelModel, tokenizer: Tokenizer, file: Path, seed: int, count: int) -> list[list[TextSplit]]:
    """At most ``count`` conversations that the bare model makes up: a user turn sampled from nothing, then its answer.

    Written to ``file`` the first time. Sampling from an empty user turn is the way of Xu et al. 2024 ("Magpie").
    """
    if not file.exists():
        generator = torch.Generator().manual_seed(seed)
        lines: list[str] = []
        for start in range(0, count, 32):
            rows = min(32, count - start)
            asked = _sample_turns(model, tokenizer, [], "user", rows, 40, generator)
            questions = [tokenizer.text(text, "user") for text in asked]
            answers = _sample_turns(model, tokenizer, questions, "assistant", rows, 64, generator)
            lines += [json.dumps(pair) for pair in zip(asked, answers, strict=True) if all(pair)]
        write_atomic(file, "\n".join(lines) + "\n")
    pairs = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [[tokenizer.text(q, "user", loss=True), tokenizer.text(a, "assistant", loss=True)] for q, a in pairs]


def _sample_turns(
    model: BagelModel, tokenizer: Tokenizer, before: list[TextSplit], role: str, rows: int, length: int,
    generator: torch.Generator,
) -> list[str]:  # fmt: skip
    context = empty_context(rows)
    if before:
        context = extend_context(model, context, before)
    with native_autocast("cpu"):
        ids, _ = generate_text(
            model,
            context,
            lambda logits: torch.multinomial(logits.float().softmax(-1), 1, generator=generator)[:, 0],
            length,
            tokenizer.role_prefix(role),
        )
    return [tokenizer.decode(row).strip() for row in ids]


@torch.no_grad()
def answer_accuracy(model: BagelModel, tokenizer: Tokenizer, data: Pictures, count: int) -> dict[str, float]:
    """Share of held-out questions whose every answer token is the most likely one, by kind of question."""
    vision = model.config.vision
    prefix = len(tokenizer.role_prefix("assistant"))
    tally: dict[str, list[bool]] = {}
    for index in range(min(count, len(data.records))):
        look = data.look_split(index, vision.patch_size, vision.patches_per_side)
        # numbered, so that the same questions are asked every time
        asked = questions(Look(**data.records[index]["look"]), random.Random(f"held out:{index}"))
        texts = [_exchange(tokenizer, question, answer) for question, answer in asked]
        with native_autocast("cpu"):
            predicted = model(pack([[look, *pair] for pair in texts], model.config)).logits.argmax(-1).tolist()
        start = 0
        for (question, answer), (_, reply) in zip(asked, texts, strict=True):
            expected = [*reply.ids[prefix:], model.config.special_tokens.eos]
            got = predicted[start + prefix : start + len(reply.ids) + 1]
            start += len(reply.ids) + 1
            kind = "yes_no" if answer in ("Yes.", "No.") else "color" if "colour" in question else "other"
            tally.setdefault(kind, []).append(got == expected)
    return {f"vqa_{kind}": round(sum(hits) / len(hits), 4) for kind, hits in sorted(tally.items())}


def read_averages(checkpoint: Path) -> dict[str, Tensor]:
    """The exponential averages of a stage's checkpoint. Raises InputError when the stage has not run."""
    return {
        n.removeprefix("ema."): t
        for n, t in load_file(require(checkpoint, checkpoint.parent.name)).items()
        if n.startswith("ema.")
    }


def fold_strength(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trained adapter as ``NAME.lora_A`` and ``NAME.lora_B``, its strength put into B."""
    pairs = {name.replace(".default.weight", ""): tensor for name, tensor in state.items() if ".lora_" in name}
    return {name: tensor * (ALPHA / RANK if name.endswith(".lora_B") else 1.0) for name, tensor in pairs.items()}
