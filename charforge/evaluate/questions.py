"""Questions with keyed answers, scored by likelihood: no generation, no judge."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charforge.bases.base import Base
from charforge.errors import InputError
from charforge.expand import ImagePart, Pair
from charforge.likelihood import NOT_ASKED, Likelihoods, Question, answer_likelihoods
from charforge.low_rank import adapter_off
from charforge.sample import Picture, Sample


@dataclass(frozen=True)
class Choice:
    """A question with several answers of which ``right`` is true."""

    question: str
    options: tuple[str, ...]
    right: int


def read_choices(file: Path) -> list[Choice]:
    """Questions from JSON: a list, or RoleScape's ``mcq_items``. Raises InputError when they cannot be read."""
    try:
        document = json.loads(file.read_text("utf-8"))
        items = document["mcq_items"] if isinstance(document, dict) else document
        choices = []
        for item in items:
            keys = sorted(item["options"])
            options = tuple(item["options"][key] for key in keys)
            choices.append(Choice(item["question"], options, keys.index(item["answer_key"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} does not hold multiple-choice questions (question, options, answer_key)") from error
    return choices


def choices_right(base: Base, system: str, choices: Sequence[Choice]) -> list[bool]:
    """Which picks are right, by :func:`choices_picked`; each question is asked after the character's system prompt.

    - Range of its mean: 0 to 1; chance is one over the number of options.
    - Source: multiple choice by likelihood (Brown et al. 2020), normalised by how likely the answer is anyway.
    - Caveat: a lazy test where the right option is the longest, or always the second: shuffle the options
      (:func:`shuffled`), and read it beside the bare base.
    """
    picked = choices_picked(base, [(base.model.text(system, "system"),)] * len(choices), choices)
    return [pick == choice.right for pick, choice in zip(picked, choices, strict=True)]


def choices_picked(base: Base, before: Sequence[Sample], choices: Sequence[Choice]) -> list[int]:
    """Which option is picked of each question; ``before`` is what is read before each, a text or a picture.

    Picked is the option that is likeliest per token, its end left out, less how likely the bare base finds it when
    nothing was asked: plain likelihood prefers common words whatever the question.
    """
    asked = _answers(base, before, choices)
    with adapter_off(base.model.network):
        # an adapter that knows the facts tells them whatever it is asked
        anyway = _answers(base, before, [Choice(NOT_ASKED, one.options, one.right) for one in choices])
    picked = []
    for options, plain in zip(asked, anyway, strict=True):
        gains = [(one[:-1].mean() - other[:-1].mean()).item() for one, other in zip(options, plain, strict=True)]
        picked.append(gains.index(max(gains)))
    return picked


def choices_said(base: Base, before: Sequence[Sample], choices: Sequence[Choice]) -> list[int]:
    """Which option the model would rather say: the likeliest per token, its end left out, nothing taken off.

    For options that are all ordinary lines of the character, and where "I do not know" is one of them: how likely that
    is anyway is a part of the answer.
    """
    likeliest = []
    for options in _answers(base, before, choices):
        means = [tokens[:-1].mean().item() for tokens in options]
        likeliest.append(means.index(max(means)))
    return likeliest


def _answers(base: Base, before: Sequence[Sample], choices: Sequence[Choice]) -> list[Likelihoods]:
    read, rows = _read_once(before)
    questions = [Question(row, one.question, one.options) for row, one in zip(rows, choices, strict=True)]
    return answer_likelihoods(base.model, read, questions)


def _read_once(before: Sequence[Sample]) -> tuple[list[Sample], list[int]]:
    """What is to be read, each thing once, and which of it stands before each question."""
    # parts are a family's own and hold tensors: the same objects are the same parts
    keys = [tuple(id(part) for part in sample) for sample in before]
    read = dict(zip(keys, before, strict=True))
    order = {key: row for row, key in enumerate(read)}
    return list(read.values()), [order[key] for key in keys]


def shuffled(choices: Sequence[Choice], seed: int = 0) -> list[Choice]:
    """The same questions with their options in a random order that question and seed decide.

    In published sets the right option stands in the same place far too often: in RoleScape B or C is right for 91 % of
    the questions, and "always C" scores 50 %.
    """
    return [_shuffled(choice, random.Random(f"{seed} {choice.question}")) for choice in choices]


def _shuffled(choice: Choice, rng: random.Random) -> Choice:
    order = rng.sample(range(len(choice.options)), len(choice.options))
    return Choice(choice.question, tuple(choice.options[number] for number in order), order.index(choice.right))


def yes_no_right(base: Base, pairs: Sequence[Pair], pictures: dict[str, Picture]) -> dict[str, list[bool]]:
    """Which of the questions about pictures that are answered by yes or no are answered right, by the true answer."""
    hits: dict[str, list[bool]] = {"Yes": [], "No": []}
    looks: dict[str, int] = {}
    asked: list[tuple[str, Question]] = []
    for pair in pairs:
        answer = pair.texts("assistant")[-1].split(",")[0].rstrip(".")
        look = next((part.image for part in pair.parts if isinstance(part, ImagePart)), None)
        if answer in hits and look is not None:
            row = looks.setdefault(look, len(looks))
            # the first word alone: after it training expects a comma, and how much it does differs between the two
            asked.append((answer, Question(row, pair.texts("user")[-1], ("Yes.", "No."), first_word=True)))
    told = answer_likelihoods(
        base.model, [(pictures[name].look,) for name in looks], [question for _, question in asked]
    )
    for (answer, _), (yes, no) in zip(asked, told, strict=True):
        hits[answer].append(("Yes" if yes.item() > no.item() else "No") == answer)
    return hits


def balanced_accuracy(hits: dict[str, list[bool]]) -> float:
    """Mean of the shares that are right of each true answer: saying always yes is worth 0.5."""
    shares = [sum(kind) / len(kind) for kind in hits.values() if kind]
    return sum(shares) / len(shares)
