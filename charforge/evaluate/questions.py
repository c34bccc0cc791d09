"""Questions with keyed answers, scored by likelihood: no generation, no judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from charforge.bases.base import Base
from charforge.errors import InputError
from charforge.expand import ImagePart, Pair
from charforge.families.protocol import UnifiedModel
from charforge.likelihood import NOT_ASKED
from charforge.low_rank import adapter_off
from charforge.sample import Part, Picture


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


def word_likelihoods(model: UnifiedModel, before: Sequence[Part], options: Sequence[str]) -> list[Tensor]:
    """Log-likelihoods of the tokens of each option as the assistant's next words, without the reply's end."""
    replies = [model.text(option, "assistant", loss=True) for option in options]
    with model.autocast():
        found = model.log_likelihoods([(*before, reply) for reply in replies])
    return [values[model.reply_prefix() : -1] for values in found]


def choices_right(base: Base, system: str, choices: Sequence[Choice]) -> list[bool]:
    """Which picks are right; each question is asked after the character's system prompt.

    Picked is the option that is likeliest per token, less how likely the bare base finds it when nothing was asked:
    plain likelihood prefers common words whatever the question.
    """
    before = base.model.text(system, "system")
    right = []
    for choice in choices:
        asked = word_likelihoods(base.model, [before, base.model.text(choice.question, "user")], choice.options)
        with adapter_off(base.model.network):
            # an adapter that knows the facts tells them whatever it is asked
            anyway = word_likelihoods(base.model, [before, base.model.text(NOT_ASKED, "user")], choice.options)
        gains = [(one.mean() - other.mean()).item() for one, other in zip(asked, anyway, strict=True)]
        right.append(gains.index(max(gains)) == choice.right)
    return right


def yes_no_right(base: Base, pairs: Sequence[Pair], pictures: dict[str, Picture]) -> dict[str, list[bool]]:
    """Which of the questions about pictures that are answered by yes or no are answered right, by the true answer."""
    hits: dict[str, list[bool]] = {"Yes": [], "No": []}
    for pair in pairs:
        answer = pair.texts("assistant")[-1].split(",")[0].rstrip(".")
        look = next((part for part in pair.parts if isinstance(part, ImagePart)), None)
        if answer not in hits or look is None:
            continue
        before = (pictures[look.image].look, base.model.text(pair.texts("user")[-1], "user"))
        # the first word alone: after it training expects a comma, and how much it does differs between the two
        yes, no = (words[0].item() for words in word_likelihoods(base.model, before, ("Yes.", "No.")))
        hits[answer].append(("Yes" if yes > no else "No") == answer)
    return hits


def balanced_accuracy(hits: dict[str, list[bool]]) -> float:
    """Mean of the shares that are right of each true answer: saying always yes is worth 0.5."""
    shares = [sum(kind) / len(kind) for kind in hits.values() if kind]
    return sum(shares) / len(shares)
