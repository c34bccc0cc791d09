"""After training: measure adapter on against off, draw what people will look at, write the bundle."""

from __future__ import annotations

import io
import json
import math
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from PIL import Image

from charforge import __version__
from charforge.adapter.lora import adapter_off
from charforge.bases.base import Base
from charforge.bases.prepare import contact_sheet, draw_prompts
from charforge.bundle import write_bundle
from charforge.bundle.manifest import (
    AdapterInfo,
    BaseInfo,
    CharacterInfo,
    ChatInfo,
    Manifest,
    TrainingInfo,
)
from charforge.character import Character
from charforge.chat.session import Session
from charforge.evaluate.requests import request_values
from charforge.expand import Pair
from charforge.files import write_atomic, write_atomic_with
from charforge.settings import Settings
from charforge.train.progress import PREVIEW_SEED
from charforge.train.sft import Dataset, held_out

QUESTIONS = ("Hello, who are you?", "What did you do today?", "What makes you angry?")


def evaluate(
    base: Base, data: Dataset, requests: list[Pair], settings: Settings, character: Character, run: Path,
    prompts: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Held-out losses, ``requests`` for pictures, pictures and replies with the adapter on and off.

    Pictures and replies go to ``run``.
    """
    seeds = [PREVIEW_SEED + index for index in range(len(prompts))]
    results: dict[str, Any] = {}
    replies: dict[str, list[str]] = {}
    sheets: list[Image.Image] = []
    for state in ("off", "on"):
        with adapter_off(base.model) if state == "off" else nullcontext():
            ce, mse = held_out(base.model, data, settings.sft)
            replies[state] = [
                Session(base, character, settings.chat).say(question, PREVIEW_SEED, draw=False).text
                for question in QUESTIONS
            ]
            sheets += draw_prompts(base, prompts, seeds)
            if requests:
                shares = request_values(base, requests, settings.chat)
                results[f"held_out_requests_{state}"] = round(float(shares.mean()), 4)
        results |= {
            f"held_out_perplexity_{state}": _rounded(math.exp(ce)),
            f"held_out_image_loss_{state}": _rounded(mse),
        }
    sheet = contact_sheet(sheets, len(prompts), sheets[0].width)
    write_atomic_with(run / "before_after.png", lambda path: sheet.save(path, "PNG"))
    write_atomic(run / "replies.json", json.dumps({"questions": QUESTIONS, **replies}, indent=2, ensure_ascii=False))
    avatar = sheets[len(prompts)]
    write_atomic_with(run / "avatar.png", lambda path: avatar.save(path, "PNG"))
    return results


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def make_bundle(
    path: Path, character: Character, base: Base, settings: Settings, run: Path, pairs: dict[str, int],
    metrics: dict[str, Any],
) -> Path:  # fmt: skip
    """The .charx of a finished run. The avatar is drawn by the model: no training picture leaves the machine."""
    manifest = Manifest(
        charforge_version=__version__,
        created=date.today().isoformat(),
        base=BaseInfo(name=settings.base, content_hash=base.content_hash, precision=base.precision),
        adapter=AdapterInfo(**settings.adapter.model_dump()),
        character=CharacterInfo.from_character(character),
        chat=ChatInfo(**settings.chat.model_dump()),
        training=TrainingInfo(
            seed=settings.seed,
            steps=settings.sft.steps,
            best_step=metrics["best_step"],
            pairs=pairs,
            settings=settings.model_dump(),
        ),
        drawing=settings.pictures,
        evaluation={key: value for key, value in metrics.items() if "held_out" in key},
    )
    avatar = io.BytesIO()
    Image.open(run / "avatar.png").save(avatar, "PNG")
    return write_bundle(path, manifest, run / "adapter", character.dialogues, avatar.getvalue(), character.card)
