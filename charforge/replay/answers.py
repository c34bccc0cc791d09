"""Questions with a base's own answers, kept for replay: training on a character must not unlearn them.

``mini`` ships its answers; any other base answers once, before its first character.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from charforge.bases.base import Base
from charforge.bases.where import MINI
from charforge.families.replies import rows_of
from charforge.files import write_atomic
from charforge.progress import counting
from charforge.replay.cache import cached_folder
from charforge.sample import Sample

ANSWER_TOKENS = 160
QUESTIONS = (
    "What is the capital of France?", "How do I boil an egg?", "Tell me a short story about a lost key.",
    "What is the difference between a frog and a toad?", "Write two lines about autumn.", "Why is the sky blue?",
    "Give me three tips for sleeping well.", "What would you do on a rainy day?", "How are you today?",
    "Explain what a mortgage is in simple words.", "Who wrote Hamlet?", "Suggest a name for a small boat.",
    "What is seven times eight?", "Describe your favourite meal.", "How does a bicycle stay upright?",
    "Say something kind to a tired friend.",
)  # fmt: skip


def replay_texts(base: Base) -> list[Sample]:
    """Questions with the bare base's own answers, so that training does not unlearn them."""
    file = MINI / "replay_texts.jsonl" if base.name == "mini" else _ensure_answered(base)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    text = base.model.text
    return [(text(row["question"], "user"), text(row["answer"], "assistant", loss=True)) for row in rows]


@torch.no_grad()
def _ensure_answered(base: Base) -> Path:
    """The file of answers, answered first where there is none."""
    file = cached_folder(base) / "texts.jsonl"
    if file.exists():
        return file
    model, lines = base.model, []
    with (
        counting(f"first character on {base.name}: it answers questions for replay") as report,
        model.autocast(),
    ):
        for index, question in enumerate(QUESTIONS):
            asked = model.read([(model.text(question, "user"),)])
            said = rows_of(model.reply(asked, lambda logits: logits.argmax(-1), ANSWER_TOKENS), 1)[0]
            answer = model.words(said).strip()
            # an answer that did not come to its end would teach to stop anywhere
            if answer and len(said) < ANSWER_TOKENS:
                lines.append(json.dumps({"question": question, "answer": answer}, ensure_ascii=False))
            report(index + 1, len(QUESTIONS))
    write_atomic(file, "".join(line + "\n" for line in lines))
    return file
