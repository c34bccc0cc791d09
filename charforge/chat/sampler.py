"""Which token comes next, by the settings of a chat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from charforge.sampling import nucleus, penalised
from charforge.settings import ChatSettings


def sampler_of(settings: ChatSettings, rows: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Chooses the next token of each row by ``settings``; the same seed, the same tokens."""

    generator = torch.Generator().manual_seed(seed)
    said: list[list[int]] = [[] for _ in range(rows)]

    def choose(logits: Tensor) -> Tensor:
        each = zip(logits.split(1), said, strict=True)
        penalties = [penalised(row, before, settings.repetition_penalty) for row, before in each]
        chosen = nucleus(torch.cat(penalties), settings.temperature, settings.top_p, generator)
        for before, token in zip(said, chosen.tolist(), strict=True):
            before.append(token)
        return chosen

    return choose
