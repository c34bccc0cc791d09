"""What rewards need beside the base itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from charforge.settings import RewardSettings

PUBLISHED_GIB = 3.0


@dataclass(frozen=True)
class Need:
    """A network that the settings name.

    ``given`` says whether they do, ``remedy`` what to set where they do not, ``gib`` the size of its weights in fp32.
    """

    given: Callable[[RewardSettings], bool]
    remedy: str
    gib: Callable[[RewardSettings], float]


ENCODER = Need(
    given=lambda settings: bool(settings.encoder),
    remedy='reward.encoder, for example "efficientnet-lite0"',
    gib=lambda settings: 0.02 if settings.encoder == "efficientnet-lite0" else 0.35,
)
CLIP = Need(
    given=lambda settings: bool(settings.clip),
    remedy='reward.clip, for example "ViT-L-14/openai"',
    gib=lambda settings: 1.6,
)


def judges_gib(settings: RewardSettings) -> float:
    """Weights of all networks that judge."""
    if settings.published:
        return PUBLISHED_GIB
    return sum(need.gib(settings) for need in (ENCODER, CLIP) if need.given(settings))
