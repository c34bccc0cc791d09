"""A reply as it is made: its words for the person who waits, and the plan of its picture, which is not for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from charforge.families.protocol import Conditioning, UnifiedModel
from charforge.sampling import nucleus, penalised
from charforge.settings import ChatSettings

PLAN = "[picture:"
UNFINISHED = "\ufffd"
"""Stands for bytes that are no letter yet: the next token completes them."""


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


def reply_texts(model: UnifiedModel, read: Conditioning, settings: ChatSettings, seed: int) -> Iterator[str]:
    """The reply to the one row of ``read`` after each of its tokens, whole from its beginning.

    Whoever stops asking ends the decoding.
    """
    tokens: list[int] = []
    steps = model.reply(read, sampler_of(settings, 1, seed), settings.max_tokens)
    while True:
        # entered for each step alone: what runs between two pieces is somebody else's
        with model.autocast():
            step = next(steps, None)
        if step is None or step.tokens[0] is None:
            return
        tokens.append(step.tokens[0])
        text = model.words(tokens)
        if not text.endswith(UNFINISHED):
            yield text


def shown_pieces(texts: Iterator[str]) -> Iterator[str]:
    """The pieces that a person may read at once, of texts that grow: nothing of a plan, nor of what may become one."""
    shown = 0
    whole = ""
    for whole in texts:
        safe = _readable(whole)
        if safe > shown:
            yield whole[shown:safe]
            shown = safe
    plan = whole.lower().find(PLAN)
    end = len(whole) if plan < 0 else plan
    if end > shown and whole[shown:end].strip():
        yield whole[shown:end].rstrip()


def _readable(text: str) -> int:
    """How much of ``text`` is sure to be shown: up to a plan, or to an end that may become the beginning of one."""
    lower = text.lower()
    end = lower.find(PLAN)
    if end < 0:
        begun = next((length for length in range(len(PLAN) - 1, 0, -1) if lower.endswith(PLAN[:length])), 0)
        end = len(text) - begun
    # the space before a plan belongs to nobody
    return len(text[:end].rstrip())
