"""The kinds of samples that a run trains and measures on: one table that everything reads.

A new kind is a row here and what writes its pairs: a writer in ``expand/`` whose pairs have one of its ``tasks``, or,
without tasks, a function in ``train/dataset.py`` that makes the base's own. How many of it a step takes are the
settings ``sft.NAME`` and ``sft.study_NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["voice", "facts", "likeness", "replay", "held out"]
"""What a kind is there for: to speak like the character, to know what is so, to draw it, to stay the base for all
others; or it is never trained on."""


@dataclass(frozen=True)
class Kind:
    """One kind of samples, named like the setting that says how many a step takes.

    - ``loss``: the one that learns it, with the weight ``sft.ce_weight`` (text) or ``sft.mse_weight`` (picture).
    - ``tasks``: those of its pairs, with what each teaches; without any, the base makes the samples itself.
    - ``count``: how many a step takes unless the settings say otherwise.
    - ``study``: how many a study step takes. Without it study steps take none of the voice and the facts, and of all
      other kinds as many as any step.
    - ``tokens``, ``together``, ``looks``: for the cost of a kind that the base makes itself. So many samples come
      together, of (question, answer) tokens each, after a picture where ``looks``.
    """

    name: str
    loss: Literal["text", "picture"]
    part: Part
    tasks: Mapping[str, str] = field(default_factory=dict)
    count: int = 0
    study: int | None = None
    tokens: tuple[int, int] = (0, 0)
    together: int = 1
    looks: bool = False

    @property
    def split(self) -> Literal["train", "held_out"]:
        """Of the pairs that it is made of."""
        return "held_out" if self.part == "held out" else "train"


TALK = {
    "roleplay_text": "A reply of the character, to the letter.",
    "roleplay_multi_turn": "A reply of the character after other turns of the same dialogue.",
    "roleplay_plan": "A reply that came with a picture. It ends in the picture's plan, `[picture: ...]`, which is "
    "written before the picture is drawn.",
}
"""Conversations: one reply, several, or a reply that ends in the plan of a picture that nobody asked for."""
CAPTIONS = {
    "text_to_image": "A picture, drawn from its caption with class and name, or from parts of it with the name alone.",
}

KINDS = (
    Kind("dialogues", "text", "voice", TALK, count=3),
    # requests for a picture are the voice too: the plan is part of the reply
    Kind("requests", "text", "voice", {
        "roleplay_request": "Asked for a picture, the character sends it: the plan at the end says what was asked for.",
    }, count=1, study=4),
    Kind("knowledge", "text", "facts", {
        "knowledge": "Questions about facts, profile and persona, answered by your own sentences in the first person; "
        "the same in short; and claims that are true or mix two facts.",
        "refusal": "Questions about what the character cannot know, and how it says so.",
    }, count=1, study=12),
    Kind("looks", "text", "facts", {
        "vqa": "Questions about pictures: who, where, what; as many with no as with yes, and some about pictures of "
        "others.",
    }, count=1, study=3),
    Kind("replay_texts", "text", "replay", count=1, tokens=(40, 60)),
    # the voice is measured on replies alone
    Kind("held_out_texts", "text", "held out", TALK),
    Kind("replay_looks", "text", "replay", tokens=(12, 4), together=4, looks=True),
    Kind("pictures", "picture", "likeness", {
        **CAPTIONS,
        "roleplay_picture": "The picture itself, drawn from the reply and its plan.",
    }, count=4),
    Kind("replay_pictures", "picture", "replay", count=4),
    Kind("held_out_pictures", "picture", "held out", CAPTIONS),
)  # fmt: skip
"""In the order in which their samples stand in a step and in the passes that prepare them: sums of floating point
numbers depend on it."""

TASKS = {task: words for kind in KINDS for task, words in kind.tasks.items()}
"""Every task that a pair can have, and what it teaches."""


def counts() -> dict[str, int]:
    """The settings of all kinds in the section ``sft`` with their defaults."""
    trained = [kind for kind in KINDS if kind.part != "held out"]
    found = {kind.name: kind.count for kind in trained}
    return found | {f"study_{kind.name}": kind.study for kind in trained if kind.study is not None}


def kinds_of_step(loss: Literal["text", "picture"], studying: bool) -> list[Kind]:
    """What a step takes for one of its losses, in order: facts stand before the voice while they are studied."""
    order: tuple[Part, ...] = ("facts", "voice") if studying else ("voice", "facts")
    return [kind for part in (*order, "likeness", "replay") for kind in KINDS if (kind.part, kind.loss) == (part, loss)]
