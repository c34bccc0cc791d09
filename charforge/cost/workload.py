"""What the steps of a run read: counted from a character, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from charforge.character import Character, Picture
from charforge.expand import TALK, Pair
from charforge.expand.pairs import Task
from charforge.families.protocol import Shapes
from charforge.replay.picture_answers import QUESTIONS
from charforge.settings import Settings

TOKEN_CHARACTERS = 4.0
"""Characters a token of English; what a tokenizer would say needs a base that is here."""


@dataclass(frozen=True)
class Workload:
    """One step in tokens: of each text, of a caption, of each picture to learn to draw.

    A text is (system prompt, what else stands before the reply, reply): texts of one step share their system prompts.
    """

    conversations: tuple[tuple[int, int, int], ...]
    caption: int
    targets: tuple[int, ...]


def workload(character: Character, pairs: Sequence[Pair], settings: Settings, shapes: Shapes) -> Workload:
    """A full step of ``settings``: of each kind of text the longest quarter, of the pictures the largest."""
    sft = settings.sft
    sizes = [_size(picture) for picture in character.pictures]
    look = max((shapes.look_tokens(*size) for size in sizes), default=0)
    texts = _texts(pairs, sft.dialogues, sft.requests, sft.knowledge, sft.looks, look)
    if sft.study_share:
        studied = _texts(pairs, 0, sft.study_requests, sft.study_knowledge, sft.study_looks, look)
        texts = max(texts, studied, key=lambda some: sum(map(sum, some)))
    texts += [(0, 40, 60)] * sft.replay_texts
    # questions about one of the base's own pictures share it as dialogues share a system prompt; two pictures are not
    # the same, so that they are told apart by a token
    drawn_look = shapes.look_tokens(*shapes.drawing_size)
    for number in range(sft.replay_looks):
        texts += [(drawn_look + number, 12, 4)] * (2 * QUESTIONS)
    targets = sorted((shapes.target_tokens(*size) for size in sizes), reverse=True)
    drawn = [pair for pair in pairs if pair.task == "text_to_image"]
    caption = max((_tokens(sum(len(text) for text in pair.texts(None))) for pair in drawn), default=40)
    return Workload(tuple(texts), caption, tuple(targets[: max(1, sft.pictures)]))


def _size(picture: Picture) -> tuple[int, int]:
    """Width and height from the file's header (what it is turned to does not matter here)."""
    with Image.open(picture.path) as image:
        return image.size


def _tokens(characters: int) -> int:
    return math.ceil(characters / TOKEN_CHARACTERS)


def _texts(
    pairs: Sequence[Pair], dialogues: int, requests: int, facts: int, looks: int, look: int
) -> list[tuple[int, int, int]]:
    """So many texts of each kind; a look stands for ``look`` tokens."""
    kinds: tuple[tuple[int, tuple[Task, ...], int], ...] = (
        (dialogues, TALK, 0),
        (requests, ("roleplay_request",), 0),
        (facts, ("knowledge", "refusal"), 0),
        (looks, ("vqa",), look),
    )
    return [text for count, tasks, extra in kinds for text in _longest(pairs, tasks, count, extra)]


def _longest(pairs: Sequence[Pair], tasks: Sequence[str], count: int, extra: int) -> list[tuple[int, int, int]]:
    """``count`` texts of the longest quarter of ``tasks``; ``extra`` tokens stand before each."""
    lengths = []
    for pair in pairs:
        if pair.task in tasks and pair.split == "train":
            system, user, said = (sum(map(len, pair.texts(role))) for role in ("system", "user", "assistant"))
            reply = len(pair.texts("assistant")[-1])
            lengths.append((_tokens(system), _tokens(user + said - reply) + extra, _tokens(reply)))
    lengths.sort(key=sum, reverse=True)
    top = lengths[: max(1, len(lengths) // 4)]
    return [top[index % len(top)] for index in range(count)] if top else []
