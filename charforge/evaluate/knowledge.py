"""Does it know what it should, and does it say so where it cannot know?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from charforge.evaluate.questions import Choice
from charforge.expand.pairs import Pair, prompt_key, similar
from charforge.expand.refusals import IN_VOICE
from charforge.expand.refusals import QUESTIONS as UNKNOWABLE
from charforge.words import word_set

ABSTENTION = "I do not know."
"""What stands for "I cannot know that" where the character has no words of its own for it."""
OPTIONS = 4
FEWEST = 4
"""Questions of each of the two kinds, below which a share says nothing."""
_EVERYDAY = word_set("""
    a an the is are was were do does did am be been you your yours i my mine me it its what which who whom whose where
    when why how tell about something can could would will of in on at to for and or else more one with that this so
    know knows things thing
""")


@dataclass(frozen=True)
class Exam:
    """Questions whose answer the character knows, and questions that it cannot answer; "I do not know" is an option of
    each of them."""

    known: list[Choice]
    unknown: list[Choice]


def calibrated_accuracy(rows: np.ndarray) -> float:
    """The mean of two shares: of the answerable questions that are answered right, and of the unanswerable ones where
    the character says that it does not know.

    ``rows`` (questions, 2): 1 where the question can be answered, 1 where the pick was right.

    - Range: 0 to 1. Whoever always answers scores at most .5, and so does whoever never does: a character that knows
      everything is as wrong as one that knows nothing. Picking blindly scores one over the number of options.
    - Source: balanced accuracy over SQuAD 2.0's two kinds of questions (Rajpurkar et al. 2018).
    - Caveat: asked by likelihood, so that it measures what the model holds to be the likelier answer; in free speech it
      may still invent one.
    """
    shares = [rows[rows[:, 0] == kind, 1].mean() for kind in (0.0, 1.0) if (rows[:, 0] == kind).any()]
    return float(np.mean(shares))


def exam_of(pairs: Sequence[Pair], seed: int = 0) -> Exam | None:
    """An exam from a run's own pairs; None where they have too few facts.

    Answerable are questions of training about facts, each fact once, with answers to other questions to choose from.
    Unanswerable are questions that no training pair asks ("What is hidden in my left shoe?"), with the same answers to
    choose from. The words for not knowing are the character's own where it was trained on some.
    """
    facts = _facts([pair for pair in pairs if pair.task == "knowledge"])
    refusals = [pair for pair in pairs if pair.task == "refusal"]
    asked = {prompt_key(text) for pair in pairs for text in pair.texts("user")}
    unanswerable = [question for question in (*UNKNOWABLE, *IN_VOICE) if prompt_key(question) not in asked]
    if min(len(facts), len(unanswerable)) < FEWEST:
        return None
    rng = random.Random(f"{seed} exam")
    words = sorted({pair.texts("assistant")[-1] for pair in refusals}) or [ABSTENTION]
    known, unknown = [], []
    for question, answer in facts.items():
        others = rng.sample([other for other in facts.values() if other != answer], OPTIONS - 2)
        known.append(_choice(question, answer, [*others, rng.choice(words)], rng))
    for question in unanswerable:
        known_answers = rng.sample(list(facts.values()), OPTIONS - 1)
        unknown.append(_choice(question, rng.choice(words), known_answers, rng))
    return Exam(known, unknown)


def with_abstention(choices: Sequence[Choice], right: bool) -> list[Choice]:
    """The questions with "I do not know." as one more option, which is the right one of questions about somebody else
    (``right``)."""
    return [
        Choice(one.question, (*one.options, ABSTENTION), len(one.options) if right else one.right) for one in choices
    ]


def _choice(question: str, answer: str, others: Sequence[str], rng: random.Random) -> Choice:
    options = rng.sample([answer, *others], 1 + len(others))
    return Choice(question, tuple(options), options.index(answer))


def _facts(pairs: Sequence[Pair]) -> dict[str, str]:
    """Answer by question, each answer once. Only questions that name what they ask for: "Tell me something" has as many
    right answers as there are facts.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        question, answer = pair.texts("user")[-1], pair.texts("assistant")[-1]
        if pair.split != "train" or not question.endswith("?") or answer.split(",")[0].rstrip(".") in ("Yes", "No"):
            continue
        if not _content(question) & _content(answer) or answer in found.values():
            continue
        if not any(similar(prompt_key(question), prompt_key(other)) for other in found):
            found[question] = answer
    # of a fact told twice, by "I" and by the name, one is asked
    kept: dict[str, str] = {}
    for question, answer in found.items():
        words = _content(answer)
        if not any(len(words & _content(other)) >= 0.6 * len(words | _content(other)) for other in kept.values()):
            kept[question] = answer
    return kept


def _content(text: str) -> frozenset[str]:
    return frozenset(word.rstrip("s") for word in prompt_key(text).split() if word not in _EVERYDAY)
