"""Does the picture show what the reply says?"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from charforge import grammar
from charforge.character import Character
from charforge.expand.phrases import meanings
from charforge.families.protocol import UnifiedModel
from charforge.likelihood import Question, answer_likelihoods, probabilities
from charforge.low_rank import adapter_off

_PLACES = frozenset({"in", "on", "at", "under", "inside", "outside", "near", "by", "behind", "beside", "among"})


@dataclass(frozen=True)
class Promise:
    """What a reply says of its picture: ``shown`` details of its plan, and as many of other replies' that it does not
    say."""

    plan: str
    shown: tuple[str, ...]
    not_shown: tuple[str, ...]


def promises(character: Character, plans: Sequence[str], seed: int = 0) -> list[Promise]:
    """What each plan promises, read from its words before anything is drawn.

    Details that nobody can be asked about (light, mood, the name) are left out. One of another plan is only asked where
    this one tells the same kind of thing, a place or clothes, in other words: what it leaves open may be anything.
    """
    details = [
        [part for part in grammar.caption_details(character, plan) if not grammar.is_noise(part)] for plan in plans
    ]
    every = sorted({detail for own in details for detail in own})
    rng = random.Random(f"{seed} promises")
    made = []
    for plan, own in zip(plans, details, strict=True):
        foreign = [other for other in every if _contradicts(other, own)]
        chosen = rng.sample(foreign, min(len(own), len(foreign)))
        made.append(Promise(plan, tuple(own), tuple(chosen)))
    return made


def _contradicts(other: str, own: Sequence[str]) -> bool:
    if _form(other) not in {_form(detail) for detail in own}:
        return False
    return not any(meanings(other) <= meanings(mine) or meanings(mine) <= meanings(other) for mine in own)


def _form(detail: str) -> str:
    """What kind of thing a detail tells, by how it begins."""
    first = detail.split()[0].lower()
    if first in _PLACES:
        return "place"
    if first == "with":
        return "eyes" if re.search(r"\beyes?\b", detail) else "mouth"
    return first if first in ("wearing", "holding", "next") else "mouth"


def kept_promises(model: UnifiedModel, pictures: Tensor, made: Sequence[Promise]) -> np.ndarray:
    """How surely each picture (n, 3, H, W) shows what its reply said and not what others said; (n,), nan for a reply
    that promises nothing.

    The base without its adapter looks at the picture and answers "Does the character ...?" with yes or no; the mean of
    the two probabilities of the true answer, over what was promised and over what was not.

    - Range: 0 to 1; .5 is a picture that has nothing to do with the reply, or a base that says yes to everything.
    - Source: question answering about generated pictures (TIFA, Hu et al. 2023), with the questions from the reply.
    - Caveat: the base is the judge of its own pictures: what it cannot see it cannot miss. Read it beside the same
      number of the pictures shuffled among the replies (:func:`charforge.evaluate.consistency.shuffled_promises`).
    """
    asked: list[tuple[int, bool]] = []
    questions: list[Question] = []
    for row, promise in enumerate(made):
        for told, details in ((True, promise.shown), (False, promise.not_shown)):
            for detail in details:
                question = grammar.has_detail("the character", detail)
                questions.append(Question(row, question, ("Yes.", "No."), first_word=True))
                asked.append((row, told))
    sums = np.zeros((len(made), 2, 2))
    if questions:
        looked = model.look_at(pictures).parts
        with adapter_off(model.network):
            answers = answer_likelihoods(model, [(look,) for look in looked], questions)
        for (row, told), answer in zip(asked, answers, strict=True):
            yes = probabilities(answer)[0].item()
            sums[row, int(told)] += (yes if told else 1 - yes, 1)
    with np.errstate(invalid="ignore"):
        shares = sums[..., 0] / np.where(sums[..., 1] > 0, sums[..., 1], np.nan)
    return np.array([np.nan if np.isnan(share).any() else share.mean() for share in shares])


def shuffled_promises(made: Sequence[Promise]) -> list[Promise]:
    """Each picture beside the next one's reply: what :func:`kept_promises` says of other pictures."""
    return [*made[1:], *made[:1]]
