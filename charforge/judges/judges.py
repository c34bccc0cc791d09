"""All parts of the reward for the pictures of one rollout, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from charforge.errors import InputError
from charforge.expand.scenes import Scene
from charforge.families.protocol import UnifiedModel
from charforge.judges.copies import copy_marks
from charforge.judges.encoders import Encoder, TextMatcher, encoded, load_encoder, load_text_matcher
from charforge.judges.evidence import Evidence, Judges
from charforge.judges.likeness import FEWEST_REFERENCES, calibrate
from charforge.judges.published_judges import PublishedJudges, load_published_judges
from charforge.judges.rewards import REWARDS
from charforge.sample import Picture
from charforge.settings import RewardSettings

SCALE_MEMORY = 0.9


def weights_of(settings: RewardSettings) -> dict[str, float]:
    """The rewards that are paid for, with their weights.

    Raises InputError for a weight of a reward that is not in the table.
    """
    names = [reward.name for reward in REWARDS]
    for name in settings.model_extra or ():
        if name not in names:
            raise InputError(f"setting reward.{name}: there is no such reward. The rewards are {', '.join(names)}")
    weights = {reward.name: float(getattr(settings, reward.name, reward.weight)) for reward in REWARDS}
    return {name: weight for name, weight in weights.items() if weight > 0}


def check_rewards(settings: RewardSettings) -> None:
    """What the settings pay for can be computed: known before anything is trained.

    Loads the networks that judge, and lets them go again. Raises InputError for a reward that is unknown or lacks what
    it needs, MachineError for a network that cannot be had.
    """
    paid = weights_of(settings)
    if not settings.published:
        if not paid:
            raise InputError("nothing is paid for: give one of the weights of the section reward a value above 0")
        for reward in REWARDS:
            for need in reward.needs:
                if reward.name in paid and not need.given(settings):
                    raise InputError(f"reward.{reward.name} needs {need.remedy}; or set reward.{reward.name} = 0")
    _load_networks(settings, torch.device("cpu"))


def check_references(count: int) -> None:
    """Raises InputError when so many pictures of the character are too few to judge by."""
    if count < FEWEST_REFERENCES:
        raise InputError("the second stage needs at least three training pictures: add some, or train with --stage sft")


def load_judges(model: UnifiedModel, settings: RewardSettings, pictures: Mapping[str, Picture]) -> Judges:
    """Load the encoders and calibrate them on ``pictures``, the character's own that are trained on.

    Raises MachineError when weights are missing and InputError when there are too few pictures.
    """
    check_references(len(pictures))
    weights_of(settings)
    encoder, matcher, published = _load_networks(settings, torch.device("cpu") if settings.on_cpu else model.device)
    # the autoencoder's own reading of them: its softness must not count as a difference
    own = [model.decode_target(picture.target) for picture in pictures.values()]
    known = calibrate(encoded(encoder.encode, own))
    known_to_tower = calibrate(encoded(lambda picture: model.look_at(picture).features, own))
    return Judges(model, settings, encoder, known, known_to_tower, copy_marks(known, own), matcher, published)


def _load_networks(
    settings: RewardSettings, device: torch.device
) -> tuple[Encoder, TextMatcher | None, PublishedJudges | None]:
    if settings.published:
        return load_encoder("dinov2", device), None, load_published_judges(device)
    matcher = load_text_matcher(settings.clip, device) if settings.clip else None
    return load_encoder(settings.encoder, device), matcher, None


@torch.no_grad()
def reward_parts(judges: Judges, pictures: Tensor, scenes: Sequence[Scene], size: int) -> dict[str, Tensor]:
    """Every part of the reward, each (rows,) on the CPU.

    ``pictures`` (rows, 3, H, W) in [-1, 1], groups of ``size`` in order; ``scenes`` one a picture. Parts of weight 0
    are measured too, where what they need is there: what is not paid for should still be seen.
    """
    if judges.published is not None:
        return judges.published.parts(judges.encoder, judges.references, pictures, scenes, size)
    evidence = Evidence(judges, pictures, scenes, size)
    return {
        reward.name: reward.compute(evidence)
        for reward in REWARDS
        if all(need.given(judges.settings) for need in reward.needs)
    }


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
    paid = [
        weights[reward.name] * parts[reward.name] / max(scales[reward.name], reward.scale_floor)
        for reward in REWARDS
        if reward.name in weights
    ]
    return torch.stack(paid).sum(0)


def advantages(rewards: Tensor, size: int, clip: float) -> tuple[Tensor, Tensor]:
    """Rewards (rows,) standardised inside their groups and clipped, and which groups have no variance (groups,)."""
    grouped = rewards.view(-1, size)
    deviation = grouped.std(1, keepdim=True)
    flat = deviation[:, 0] < 1e-6
    standard = (grouped - grouped.mean(1, keepdim=True)) / (deviation + 1e-4)
    return torch.where(flat[:, None], 0.0, standard).clamp(-clip, clip).flatten(), flat
