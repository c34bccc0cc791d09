"""Sampling replies, as chat does and as a run is measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charforge.bases.base import Base
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.decode import rows_of, stream_text
from charforge.families.bagel.model import computes_in_bf16
from charforge.families.bagel.splits import TextSplit
from charforge.sampling import nucleus, penalised
from charforge.settings import ChatSettings


@torch.no_grad()
def sample_replies(
    base: Base, conversations: Sequence[Sequence[TextSplit]], settings: ChatSettings, seed: int
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

    with torch.autocast(base.model.device.type, torch.bfloat16, enabled=computes_in_bf16(base.model)):
        context = empty_context(len(conversations))
        for turns in zip(*conversations, strict=True):
            context = extend_context(base.model, context, turns)
        prefix = base.tokenizer.role_prefix("assistant")
        ids = rows_of(stream_text(base.model, context, choose, settings.max_tokens, prefix), context.rows)
    return [base.tokenizer.decode(row).strip() for row in ids]
