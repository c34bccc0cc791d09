"""The kinds of samples that a run trains and measures on: one table that everything reads.

A new kind is a row here and what writes its pairs: a writer in ``expand/`` whose pairs have one of its ``tasks``, or,
without tasks, a function in ``train/dataset.py`` that makes the base's own. How many of it a step takes are the
settings ``sft.NAME`` and ``sft.study_NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["voice", "facts", "likeness", "replay", "held out"]
"""What a kind is there for: to speak like the character, to know what is so, to draw it, to stay the base for all
others; or it is never trained on."""


@dataclass(frozen=True)
class Kind:
    """One kind of samples, named like the setting that says how many a step takes.

    ``loss`` is the one that learns it, with the weight ``sft.ce_weight`` (text) or ``sft.mse_weight`` (picture).
    ``tasks`` are those of its pairs; without, the base makes them itself. ``count`` is how many a step takes unless the
    settings say otherwise, ``study`` how many a study step does; without it, study steps take none where the kind is of
    the voice or the facts, and as many as any other step where it is not.

    Of the base's own texts the cost of a step knows what they are like: ``together`` samples come in one step, of
    ``tokens`` (question, answer) each, after a picture where ``looks``.
    """

    name: str
    loss: Literal["text", "picture"]
    part: Part
    tasks: tuple[str, ...] = ()
    count: int = 0
    study: int | None = None
    tokens: tuple[int, int] = (0, 0)
    together: int = 1
    looks: bool = False

    @property
    def split(self) -> Literal["train", "held_out"]:
        """Of the pairs that it is made of."""
        return "held_out" if self.part == "held out" else "train"


TALK = ("roleplay_text", "roleplay_multi_turn", "roleplay_plan")
"""Conversations: one reply, several, or a reply that ends in the plan of a picture that nobody asked for."""

KINDS = (
    Kind("dialogues", "text", "voice", TALK, count=3),
    # requests for a picture are the voice too: the plan is part of the reply
    Kind("requests", "text", "voice", ("roleplay_request",), count=1, study=4),
    Kind("knowledge", "text", "facts", ("knowledge", "refusal"), count=1, study=12),
    Kind("looks", "text", "facts", ("vqa",), count=1, study=3),
    Kind("replay_texts", "text", "replay", count=1, tokens=(40, 60)),
    # the voice is measured on replies alone
    Kind("held_out_texts", "text", "held out", TALK),
    Kind("replay_looks", "text", "replay", tokens=(12, 4), together=4, looks=True),
    Kind("pictures", "picture", "likeness", ("text_to_image", "roleplay_picture"), count=4),
    Kind("replay_pictures", "picture", "replay", count=4),
    Kind("held_out_pictures", "picture", "held out", ("text_to_image",)),
)
"""In the order in which their samples stand in a step and in the passes that prepare them: sums of floating point
numbers depend on it."""

TASKS = tuple(dict.fromkeys(task for kind in KINDS for task in kind.tasks))
"""Every task that a pair can have."""


def counts() -> dict[str, int]:
    """The settings of all kinds in the section ``sft`` with their defaults."""
    trained = [kind for kind in KINDS if kind.part != "held out"]
    found = {kind.name: kind.count for kind in trained}
    return found | {f"study_{kind.name}": kind.study for kind in trained if kind.study is not None}


def kinds_of_step(loss: Literal["text", "picture"], studying: bool) -> list[Kind]:
    """What a step takes for one of its losses, in order: facts stand before the voice while they are studied."""
    order: tuple[Part, ...] = ("facts", "voice") if studying else ("voice", "facts")
    return [kind for part in (*order, "likeness", "replay") for kind in KINDS if (kind.part, kind.loss) == (part, loss)]
