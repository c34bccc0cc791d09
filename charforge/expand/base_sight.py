"""How a base is asked about pictures: by the likelihood of its answers. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from charforge.bases.base import Base
from charforge.expand.looking import Sight
from charforge.likelihood import NOT_ASKED, Question, answer_likelihoods
from charforge.sample import Picture

LEAST_MARGIN = math.log(3)
"""Nats by which "Yes" is likelier than "No": three to one."""
ELSEWHERE = "probe:triangle"
"""A picture that shows nothing of what is asked for: who says yes there too says yes to everything."""


def base_sight(base: Base, pictures: Mapping[str, Picture]) -> Sight:
    """The sight of ``base`` for prepared pictures by name, the known ones among them."""

    def confirm(picture: str, question: str) -> bool:
        looks = [(pictures[name].look,) for name in (picture, ELSEWHERE)]
        asked = [Question(number, question, ("Yes.", "No."), first_word=True) for number in range(2)]
        here, elsewhere = ((yes - no).item() for yes, no in answer_likelihoods(base.model, looks, asked))
        return here >= LEAST_MARGIN and elsewhere < 0

    def score(shown: Sequence[str], question: str, answers: Sequence[str]) -> list[float]:
        """The mean over the pictures of how much likelier each answer is than where nothing was asked: short and common
        words are likely whatever the question.
        """
        looks = [(pictures[name].look,) for name in shown]
        texts = (question, NOT_ASKED)
        asked = [Question(number, text, tuple(answers)) for text in texts for number in range(len(shown))]
        found = [[words.sum().item() for words in each] for each in answer_likelihoods(base.model, looks, asked)]
        gains = zip(found[: len(shown)], found[len(shown) :], strict=True)
        rows = [[told - anyway for told, anyway in zip(*both, strict=True)] for both in gains]
        return [sum(column) / len(shown) for column in zip(*rows, strict=True)]

    return Sight(confirm, score)
