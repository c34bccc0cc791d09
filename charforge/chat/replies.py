"""Sampling replies, as chat does and as a run is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.families.protocol import UnifiedModel
from charforge.families.replies import rows_of
from charforge.sample import Part
from charforge.sampling import nucleus, penalised
from charforge.settings import ChatSettings


@torch.no_grad()
def sample_replies(
    model: UnifiedModel, conversations: Sequence[Sequence[Part]], settings: ChatSettings, seed: int
) -> list[str]:
    """The assistant's next turn in each of the conversations, which have equally many turns; decoded side by side.

    The same conversations and seed give the same replies. Raises ValueError for conversations of unequal length.
    """
    generator = torch.Generator().manual_seed(seed)
    said: list[list[int]] = [[] for _ in conversations]

    def choose(logits: Tensor) -> Tensor:
        rows = zip(logits.split(1), said, strict=True)
        penalties = [penalised(row, before, settings.repetition_penalty) for row, before in rows]
        chosen = nucleus(torch.cat(penalties), settings.temperature, settings.top_p, generator)
        for before, token in zip(said, chosen.tolist(), strict=True):
            before.append(token)
        return chosen

    with model.autocast():
        read = model.read([tuple(conversation) for conversation in conversations])
        rows = rows_of(model.reply(read, choose, settings.max_tokens), read.rows)
    return [model.words(row).strip() for row in rows]
