"""All parts of the reward for the pictures of one rollout, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charforge.errors import InputError
from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.judges.encoders import Encoder, TextMatcher, load_encoder, load_text_matcher
from charforge.judges.likeness import (
    References,
    calibrate,
    copying_reward,
    identity_reward,
    leave_one_out_variety,
    nearest_similarity,
)
from charforge.judges.published_judges import PublishedJudges, load_published_judges
from charforge.judges.scene import scene_reward
from charforge.sample import Picture
from charforge.settings import RewardSettings

SCALE_MEMORY = 0.9
SCALE_FLOOR = {"scene": 0.02, "clip_text": 0.005, "identity": 0.01, "copying": 0.01, "variety": 0.01}
"""Least scale of a part: one whose siblings hardly differ would otherwise be blown up to pure noise."""


@dataclass(frozen=True)
class Judges:
    """What is needed to pay for pictures, and beside it an encoder that no reward asks, the base's vision ``tower``.

    References are in the features of their encoder.
    """

    model: UnifiedModel
    settings: RewardSettings
    encoder: Encoder
    references: References
    tower: Encoder
    tower_references: References
    matcher: TextMatcher | None
    published: PublishedJudges | None


def load_judges(model: UnifiedModel, settings: RewardSettings, pictures: Mapping[str, Picture]) -> Judges:
    """Load the encoders and calibrate them on ``pictures``, the character's own that are trained on.

    Raises MachineError when weights are missing and InputError when there are too few pictures.
    """
    if len(pictures) < 3:
        raise InputError("the second stage needs at least three training pictures: add some, or train with --stage sft")
    device = torch.device("cpu") if settings.on_cpu else model.device
    encoder = load_encoder("dinov2" if settings.published else settings.encoder, device)
    # the autoencoder's own reading of them: its softness must not count as a difference
    own = [model.decode_target(picture.target)[None] for picture in pictures.values()]
    tower = tower_encoder(model)

    def known(one: Encoder) -> References:
        return calibrate(torch.cat([one.encode(picture).cpu() for picture in own]))

    matcher = load_text_matcher(settings.clip, device) if settings.clip and not settings.published else None
    if settings.clip_text and matcher is None and not settings.published:
        raise InputError('reward.clip_text needs reward.clip, for example "ViT-L-14/openai"; or set clip_text = 0')
    published = load_published_judges(device) if settings.published else None
    return Judges(model, settings, encoder, known(encoder), tower, known(tower), matcher, published)


def tower_encoder(model: UnifiedModel) -> Encoder:
    """How the base itself sees pictures, as an encoder: used to judge, never in a reward."""
    return Encoder("vision tower", lambda pictures: model.look_at(pictures).features)


def weights_of(settings: RewardSettings) -> dict[str, float]:
    """The parts that are paid for. Without CLIP its weight is the scene's already (presets say so)."""
    names = ("scene", "clip_text", "identity", "copying", "variety")
    return {name: getattr(settings, name) for name in names if getattr(settings, name) > 0}


@torch.no_grad()
def reward_parts(judges: Judges, pictures: Tensor, scenes: Sequence[Scene], size: int) -> dict[str, Tensor]:
    """Every part of the reward, each (rows,) on the CPU.

    ``pictures`` (rows, 3, H, W) in [-1, 1], groups of ``size`` in order; ``scenes`` one a picture. Parts of weight 0
    are measured too, except CLIP: what is not paid for should still be seen.
    """
    if judges.published is not None:
        return judges.published.parts(judges.encoder, judges.references, pictures, scenes, size)
    features = judges.encoder.encode(pictures).cpu()
    references = judges.references
    nearest = nearest_similarity(features, references)
    scene = scene_reward(judges.model, pictures, scenes)
    paid = scene >= scene.view(-1, size).mean(1).repeat_interleave(size)
    parts = {
        "scene": scene,
        "identity": identity_reward(nearest, references),
        "copying": copying_reward(nearest, references.copy, references.low),
        "variety": leave_one_out_variety(features, size, paid),
    }
    if judges.matcher is not None:
        parts["clip_text"] = judges.matcher.similarity(pictures, [scene.prompt for scene in scenes]).cpu()
    return parts


def update_scales(scales: Mapping[str, float], parts: Mapping[str, Tensor], size: int) -> dict[str, float]:
    """Running deviation of each part inside its groups: what one unit of the part is worth."""
    fresh = {name: part.view(-1, size).var(1).mean().sqrt().item() for name, part in parts.items()}
    if not scales:
        return fresh
    return {name: SCALE_MEMORY * scales[name] + (1 - SCALE_MEMORY) * value for name, value in fresh.items()}


def total_reward(parts: Mapping[str, Tensor], settings: RewardSettings, scales: Mapping[str, float]) -> Tensor:
    """The weighted sum of the parts in units of their scale, or the published sum as it stands; (rows,)."""
    if settings.published:
        return torch.stack(list(parts.values())).sum(0)
    weights = weights_of(settings)
    return torch.stack(
        [weight * parts[name] / max(scales[name], SCALE_FLOOR[name]) for name, weight in weights.items()]
    ).sum(0)


def advantages(rewards: Tensor, size: int, clip: float) -> tuple[Tensor, Tensor]:
    """Rewards (rows,) standardised inside their groups and clipped, and which groups have no variance (groups,)."""
    grouped = rewards.view(-1, size)
    deviation = grouped.std(1, keepdim=True)
    flat = deviation[:, 0] < 1e-6
    standard = (grouped - grouped.mean(1, keepdim=True)) / (deviation + 1e-4)
    return torch.where(flat[:, None], 0.0, standard).clamp(-clip, clip).flatten(), flat
