"""How many pairs of each task an expansion has, beside the numbers of the published method.

Published: UniCharacter's release for RoleScape-20, which a large language model annotated. A character with N pictures
has N + 180 dialogues, N of each task about drawing, 20 N open questions about pictures and 100 about knowledge; the
questions with answers to choose from (5 N and 10) are there for measuring only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from charforge.character import Character
from charforge.expand.choices import has_options
from charforge.expand.pairs import Pair


@dataclass(frozen=True)
class TaskRow:
    """One task: how many pairs of ours, and how many of the published method (None: it has no such task)."""

    task: str
    pairs: int
    published: int | None


def task_table(character: Character, pairs: Sequence[Pair]) -> list[TaskRow]:
    """The published tasks in their order, then those that only we have."""
    pictures = len(character.pictures)
    captioned = {picture.name for picture in character.pictures if picture.caption}

    def count(of: Callable[[Pair], bool]) -> int:
        return sum(map(of, pairs))

    def asks(task: str, options: bool) -> int:
        return count(lambda pair: pair.task == task and has_options(pair.texts("user")[-1]) == options)

    def from_reply(planned: bool) -> int:
        return count(lambda p: p.task == "roleplay_picture" and (p.images("draw")[0] in captioned) == planned)

    return [
        TaskRow("role-play, text", count(lambda pair: pair.task == "roleplay_text"), pictures + 180),
        TaskRow("picture from the reply", from_reply(False), pictures),
        TaskRow("plan before the picture", count(lambda pair: pair.task == "roleplay_plan"), pictures),
        TaskRow("picture from plan and reply", from_reply(True), pictures),
        TaskRow("text to image", count(lambda pair: pair.task == "text_to_image"), pictures),
        TaskRow("questions about pictures, open", asks("vqa", False), 20 * pictures),
        TaskRow("questions about pictures, multiple choice", asks("vqa", True), 5 * pictures),
        TaskRow("knowledge, open", asks("knowledge", False), 100),
        TaskRow("knowledge, multiple choice", asks("knowledge", True), 10),
        TaskRow("refusals", count(lambda pair: pair.task == "refusal"), None),
        TaskRow("role-play, several turns", count(lambda pair: pair.task == "roleplay_multi_turn"), None),
        TaskRow("requests for a picture", count(lambda pair: pair.task == "roleplay_request"), None),
    ]
