"""How a base is asked about pictures: by the likelihood of its answers. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from charforge.bases.base import Base
from charforge.expand.looking import Sight
from charforge.sample import Part, Picture

LEAST_MARGIN = math.log(3)
"""Nats by which "Yes" is likelier than "No": three to one."""
ELSEWHERE = "probe:triangle"
"""A picture that shows nothing of what is asked for: who says yes there too says yes to everything."""


def base_sight(base: Base, pictures: Mapping[str, Picture]) -> Sight:
    """The sight of ``base`` for prepared pictures by name, the known ones among them."""

    def confirm(picture: str, question: str) -> bool:
        here, elsewhere = (_margin(base, pictures[name].look, question) for name in (picture, ELSEWHERE))
        return here >= LEAST_MARGIN and elsewhere < 0

    def score(shown: Sequence[str], question: str, answers: Sequence[str]) -> list[float]:
        return [_mean_score(base, [pictures[name].look for name in shown], question, answer) for answer in answers]

    return Sight(confirm, score)


@torch.no_grad()
def _margin(base: Base, look: Part, question: str) -> float:
    """Log-likelihood of "Yes" less that of "No", nats, as the first word of the reply."""
    model = base.model
    asked = model.text(question, "user")
    with model.autocast():
        found = model.log_likelihoods(
            [(look, asked, model.text(answer, "assistant", loss=True)) for answer in ("Yes.", "No.")]
        )
    yes, no = (values[model.reply_prefix()].item() for values in found)
    return yes - no


@torch.no_grad()
def _mean_score(base: Base, looks: Sequence[Part], question: str, answer: str) -> float:
    """Log-likelihood of the answer's words, nats, mean over the pictures."""
    model = base.model
    asked, told = model.text(question, "user"), model.text(answer, "assistant", loss=True)
    with model.autocast():
        found = model.log_likelihoods([(look, asked, told) for look in looks])
    return sum(values[model.reply_prefix() :].sum().item() for values in found) / len(looks)
