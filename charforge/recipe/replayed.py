"""What the packed base answers of itself, about the world and about its own pictures: it ships beside the weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from charforge.bases.base import load_base, native_autocast
from charforge.families.bagel.context import empty_context, extend_context
from charforge.families.bagel.decode import generate_text
from charforge.files import write_atomic
from charforge.recipe.questions import QUESTIONS
from charforge.replay.looks import answered_looks


def write_answers(to: Path) -> dict[str, int]:
    """Write ``replay_texts.jsonl`` and ``replay_looks.jsonl`` into ``to``; how many answers each has."""
    made = {"replay_texts.jsonl": own_answers(), "replay_looks.jsonl": answered_looks(load_base("mini"))}
    for name, lines in made.items():
        write_atomic(to / name, lines)
    return {name: lines.count("\n") for name, lines in made.items()}


@torch.no_grad()
def own_answers(batch: int = 12) -> str:
    """The bare base's greedy answers, one JSON object a line; unfinished and empty ones are left out."""
    base = load_base("mini")
    lines = []
    for start in range(0, len(QUESTIONS), batch):
        asked = QUESTIONS[start : start + batch]
        context = extend_context(
            base.model, empty_context(len(asked)), [base.tokenizer.text(question, "user") for question in asked]
        )
        limit = 64
        with native_autocast("cpu"):
            ids, _ = generate_text(
                base.model, context, lambda logits: logits.argmax(-1), limit, base.tokenizer.role_prefix("assistant")
            )
        for question, answer in zip(asked, ids, strict=True):
            text = base.tokenizer.decode(answer).strip()
            if len(answer) < limit and text:
                lines.append(json.dumps({"question": question, "answer": text}, ensure_ascii=False))
    return "\n".join(lines) + "\n"
