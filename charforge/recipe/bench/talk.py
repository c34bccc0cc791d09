"""Whether the language side still talks as the bare language model does: perplexity on a fixed text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

from charforge.bases.base import Base
from charforge.bases.language import ensure_language_weights
from charforge.evaluate.forgetting import text_rows
from charforge.evaluate.voice import perplexity
from charforge.families.bagel.config import BagelConfig
from charforge.families.bagel.model import BagelModel
from charforge.families.bagel.tokenizer import Tokenizer
from charforge.families.protocol import UnifiedModel
from charforge.recipe.network import build_for_pretraining, take_apart
from charforge.sample import Sample

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


def chat_perplexity_ratio(base: Base) -> dict[str, float]:
    """Perplexities on the fixed text: the base's, the plain language model's, and their ratio (1: unchanged)."""
    model = take_apart(base)
    talk = conversations(model.tokenizer)
    plain_model = replace(model, network=plain_language_model(model.shapes))
    # a family takes its own kind of canvas and conditioning only, which the types of the protocol cannot say
    bare = replace(base, model=cast(UnifiedModel, plain_model))
    ours, plain = (perplexity(text_rows(one.model, talk)) for one in (base, bare))
    return {"base": round(ours, 3), "plain": round(plain, 3), "ratio": round(ours / plain, 4)}
