"""Sampling replies side by side, as a run is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from charforge.chat.sampler import sampler_of
from charforge.families.protocol import UnifiedModel
from charforge.families.replies import rows_of
from charforge.sample import Part
from charforge.settings import ChatSettings


@torch.no_grad()
def sample_replies(
    model: UnifiedModel, conversations: Sequence[Sequence[Part]], settings: ChatSettings, seed: int
) -> list[str]:
    """The assistant's next turn in each of the conversations, which have equally many turns; decoded side by side.

    The same conversations and seed give the same replies. Raises ValueError for conversations of unequal length.
    """
    with model.autocast():
        read = model.read([tuple(conversation) for conversation in conversations])
        rows = rows_of(model.reply(read, sampler_of(settings, read.rows, seed), settings.max_tokens), read.rows)
    return [model.words(row).strip() for row in rows]
