"""What the packed base answers of itself, about the world and about its own pictures: it ships beside the weights."""

from __future__ import annotations

import json
from pathlib import Path

from charforge.bases.base import load_base
from charforge.families.protocol import UnifiedModel
from charforge.families.replies import rows_of
from charforge.files import write_atomic
from charforge.recipe.questions import QUESTIONS
from charforge.replay.picture_answers import answer_about_pictures

LIMIT = 64
"""Tokens of an answer: a longer one is left out."""


def write_answers(to: Path) -> dict[str, int]:
    """Write ``replay_texts.jsonl`` and ``replay_looks.jsonl`` into ``to``; how many answers each has."""
    base = load_base("mini")
    made = {"replay_texts.jsonl": answer_questions(base.model), "replay_looks.jsonl": answer_about_pictures(base)}
    for name, lines in made.items():
        write_atomic(to / name, lines)
    return {name: lines.count("\n") for name, lines in made.items()}


def answer_questions(model: UnifiedModel, batch: int = 12) -> str:
    """The bare base's greedy answers, one JSON object a line; unfinished and empty ones are left out."""
    lines = []
    for start in range(0, len(QUESTIONS), batch):
        questions = QUESTIONS[start : start + batch]
        read = model.read([(model.text(question, "user"),) for question in questions])
        replies = rows_of(model.reply(read, lambda logits: logits.argmax(-1), LIMIT), len(questions))
        for question, reply in zip(questions, replies, strict=True):
            text = model.words(reply).strip()
            if len(reply) < LIMIT and text:
                lines.append(json.dumps({"question": question, "answer": text}, ensure_ascii=False))
    return "\n".join(lines) + "\n"
