"""A whole random base that fits anywhere: model, autoencoder, tokenizer, and judges that need no download."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tiny import tiny_data, tiny_model

from charforge.bases.base import Base
from charforge.expand.scenes import Check, KeyedCheck, Scene
from charforge.families.bagel.unified import UnifiedBagel
from charforge.judges.copies import copy_marks
from charforge.judges.encoders import Encoder
from charforge.judges.evidence import Judges
from charforge.judges.likeness import calibrate
from charforge.settings import GrpoSettings, RewardSettings, Settings


def tiny_base(seed: int = 0, dtype: torch.dtype = torch.float32) -> Base:
    return Base("tiny", tiny_model(seed, dtype), "0" * 64, "float32")


def scene(number: int, split: str, place: str, color: str) -> Scene:
    return Scene(
        id=f"{split}-{number}",
        split=split,
        prompt=f"Pip , wearing a {color} coat , {place}",
        checks=(
            Check(kind="place", question=f"Is the character {place} ?", answer=True),
            Check(kind="clothes", question=f"Is the character wearing a {color} coat ?", answer=True),
            Check(kind="mouth", question="Is the character frowning ?", answer=False),
        ),
        keyed=(
            KeyedCheck(kind="place", question="Where is it ?", options=("In a forest .", "In a desert ."), right=0),
        ),
    )


SCENES = [
    scene(number, split, place, color)
    for split in ("train", "held_out")
    for number, (place, color) in enumerate([("in a forest", "red"), ("on a beach", "blue"), ("in a desert", "red")])
]


def pixel_encoder() -> Encoder:
    """Four by four pixels: real features that need no weights."""
    return Encoder("pixels", lambda p: F.normalize(F.adaptive_avg_pool2d(p.float(), 4).flatten(1) + 0.1, dim=-1))


def tiny_judges(model: UnifiedBagel, **weights: float) -> Judges:
    encoder = pixel_encoder()
    own = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    known, known_to_tower = calibrate(encoder.encode(own)), calibrate(model.look_at(own).features.cpu())
    marks = copy_marks(known, list(own))
    return Judges(model, RewardSettings(**weights), encoder, known, known_to_tower, marks, None, None)


def grpo_settings(**changes: object) -> Settings:
    values: dict[str, object] = {
        "iterations": 3, "prompts": 2, "group": 4, "updates": 2, "steps": 5, "window": 2, "window_last_start": 2,
        "learning_rate": 3e-3, "warmup": 1, "anchor_pictures": 2, "held_out_pictures": 2, "evaluate_every": 2,
        "preview_every": 100, "checkpoint_every": 1, "micro_batch": 8, "guard": 10.0,
    }  # fmt: skip
    return Settings(grpo=GrpoSettings(**(values | changes)))  # type: ignore[arg-type]


__all__ = ["SCENES", "grpo_settings", "tiny_base", "tiny_data", "tiny_judges"]
