"""What a training run will cost, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from charforge.settings import Settings

# Measured on two cores of a server CPU with avx512_bf16 (docs/log.md): one step of the preset `mini` (7 texts, 24
# noisy pictures) takes 2.4 s; everything around the steps 60 to 130 s; the process peaks at 4.5 GiB (Wren) and 5.3 GiB
# (Bo). How a step divides between texts and pictures is a guess.
_SECONDS_PER_TEXT, _SECONDS_PER_DRAW, _SECONDS_AROUND = 0.19, 0.045, 90.0
_HOST_GIB, _RUN_GIB = 5.3, 0.15


@dataclass(frozen=True)
class Cost:
    """Peaks and time; None where nothing is known about this base yet."""

    gpu_peak_gib: float | None
    host_peak_gib: float | None
    disk_gib: float | None
    hours: float | None


def estimate(settings: Settings) -> Cost:
    """The cost of one run on two CPU cores. Only `mini` has been measured."""
    sft = settings.sft
    if settings.base != "mini":
        return Cost(None, None, None, None)
    texts = sft.dialogues + sft.knowledge + sft.looks + sft.replay_texts
    draws = (sft.pictures + sft.replay_pictures) * sft.draws
    seconds = sft.steps * (texts * _SECONDS_PER_TEXT + draws * _SECONDS_PER_DRAW) + _SECONDS_AROUND
    return Cost(0.0, _HOST_GIB, _RUN_GIB, round(seconds / 3600, 2))
