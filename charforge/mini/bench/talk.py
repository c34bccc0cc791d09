"""Whether the language side still talks as the bare language model does: perplexity on a fixed text."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from charforge.bagel.config import BagelConfig
from charforge.bagel.model import BagelModel, computes_in_bf16
from charforge.bagel.tokenizer import Tokenizer
from charforge.bases.base import Base
from charforge.bases.language import ensure_language_weights
from charforge.mini.generation import build_for_pretraining
from charforge.sample import Sample
from charforge.train.losses import text_loss

TALK = Path(__file__).parent / "talk.jsonl"


def plain_language_model(config: BagelConfig) -> BagelModel:
    """SmolLM2-135M-Instruct as it was published; everything else in the model is untrained."""
    return build_for_pretraining(config, ensure_language_weights() / "language.safetensors", seed=0)


def conversations(tokenizer: Tokenizer) -> list[Sample]:
    """The fixed conversations, every turn supervised."""
    lines = [json.loads(line) for line in TALK.read_text("utf-8").splitlines()]
    return [
        (tokenizer.text(line["user"], "user", loss=True), tokenizer.text(line["assistant"], "assistant", loss=True))
        for line in lines
    ]


@torch.no_grad()
def perplexity(model: BagelModel, talk: list[Sample]) -> float:
    """Exponential of the mean cross-entropy per token."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in_bf16(model)):
        total, count = text_loss(model, talk)
    return float(torch.exp(total / count))


def chat_perplexity_ratio(base: Base) -> dict[str, float]:
    """Perplexities on the fixed text: the base's, the plain language model's, and their ratio (1: unchanged)."""
    talk = conversations(base.tokenizer)
    ours, plain = perplexity(base.model, talk), perplexity(plain_language_model(base.config), talk)
    return {"base": round(ours, 3), "plain": round(plain, 3), "ratio": round(ours / plain, 4)}
