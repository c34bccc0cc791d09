"""What the steps of a run read: counted from a character, before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from charforge.character import Character, Picture
from charforge.expand import Pair
from charforge.families.protocol import Shapes
from charforge.kinds import KINDS, Kind
from charforge.settings import Settings, SftSettings

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
    texts = _texts(pairs, sft, look, studying=False)
    if sft.study_share:
        texts = max(texts, _texts(pairs, sft, look, studying=True), key=lambda some: sum(map(sum, some)))
    for kind in KINDS:
        if kind.loss == "text" and kind.part == "replay":
            for number in range(sft.count(kind)):
                # questions about one of the base's own pictures share it as dialogues share a system prompt; two
                # pictures are not the same, so that they are told apart by a token
                shared = shapes.look_tokens(*shapes.drawing_size) + number if kind.looks else 0
                texts += [(shared, *kind.tokens)] * kind.together
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


def _texts(pairs: Sequence[Pair], sft: SftSettings, look: int, studying: bool) -> list[tuple[int, int, int]]:
    """The texts about the character in one step; a picture that is looked at stands for ``look`` tokens."""
    kinds = [kind for kind in KINDS if kind.loss == "text" and kind.part in ("voice", "facts")]
    return [text for kind in kinds for text in _longest(pairs, kind, sft.count(kind, studying), look)]


def _longest(pairs: Sequence[Pair], kind: Kind, count: int, look: int) -> list[tuple[int, int, int]]:
    """``count`` texts of the longest quarter of ``kind``."""
    lengths = []
    for pair in pairs:
        if pair.task in kind.tasks and pair.split == kind.split:
            system, user, said = (sum(map(len, pair.texts(role))) for role in ("system", "user", "assistant"))
            reply = len(pair.texts("assistant")[-1])
            before = _tokens(user + said - reply) + look * len(pair.images("look"))
            lengths.append((_tokens(system), before, _tokens(reply)))
    lengths.sort(key=sum, reverse=True)
    top = lengths[: max(1, len(lengths) // 4)]
    return [top[index % len(top)] for index in range(count)] if top else []
