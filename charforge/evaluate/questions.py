"""Questions with keyed answers, scored by likelihood: no generation, no judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charforge.bagel.packing import LookSplit, Split
from charforge.bases.base import Base
from charforge.errors import InputError
from charforge.expand import ImagePart, Pair
from charforge.likelihood import mean_log_likelihood
from charforge.sample import Picture


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


def pick(base: Base, before: Sequence[Split], options: Sequence[str]) -> int:
    """The option with the highest mean log-likelihood as the assistant's next words."""
    scores = [
        mean_log_likelihood(base, [*before, base.tokenizer.text(option, "assistant", loss=True)]) for option in options
    ]
    return scores.index(max(scores))


def choice_accuracy(base: Base, system: str, choices: Sequence[Choice]) -> float:
    """Share of right picks; each question is asked after the character's system prompt."""
    before = base.tokenizer.text(system, "system")
    right = [
        pick(base, [before, base.tokenizer.text(choice.question, "user")], choice.options) == choice.right
        for choice in choices
    ]
    return sum(right) / len(right)


def yes_no_accuracy(base: Base, pairs: Sequence[Pair], pictures: dict[str, Picture]) -> float:
    """Balanced accuracy over questions about pictures that are answered by yes or no."""
    hits: dict[str, list[bool]] = {"Yes": [], "No": []}
    for pair in pairs:
        answer = pair.texts("assistant")[-1].split(",")[0].rstrip(".")
        look = next((part for part in pair.parts if isinstance(part, ImagePart)), None)
        if answer not in hits or look is None:
            continue
        split: LookSplit = pictures[look.image].look
        asked = base.tokenizer.text(pair.texts("user")[-1], "user")
        hits[answer].append(("Yes", "No")[pick(base, [split, asked], ("Yes.", "No."))] == answer)
    shares = [sum(kind) / len(kind) for kind in hits.values() if kind]
    return sum(shares) / len(shares)
