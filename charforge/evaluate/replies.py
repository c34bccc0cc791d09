"""Replies to what no training step has seen, sampled as in chat and with fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charforge import grammar
from charforge.chat.replies import sample_replies
from charforge.expand.pairs import Pair, TextPart
from charforge.families.protocol import UnifiedModel
from charforge.kinds import TALK
from charforge.settings import ChatSettings

SEED = 60_000
ROWS = 16
"""Conversations answered side by side."""


@dataclass(frozen=True)
class Turn:
    """One line of a conversation; ``role`` is system, user or assistant."""

    role: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """What was said until it is the character's turn, and what it said then, where that is known."""

    name: str
    turns: tuple[Turn, ...]
    reference: str = ""

    @property
    def asked(self) -> str:
        """The user's last line."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def heard(self) -> str:
        """All that the user has said."""
        return " ".join(turn.text for turn in self.turns if turn.role == "user") or self.name


def held_out_conversations(pairs: Sequence[Pair]) -> list[Conversation]:
    """The held-out conversations of a run whose last line is a reply of the character in words alone."""
    found = []
    for pair in pairs:
        if pair.split != "held_out" or pair.task not in TALK:
            continue
        parts = [part for part in pair.parts if isinstance(part, TextPart)]
        if len(parts) < len(pair.parts) or len(parts) < 2 or parts[-1].role != "assistant":
            continue
        turns = tuple(Turn(part.role or "user", part.text) for part in parts[:-1])
        found.append(Conversation(asked_in(pair), turns, grammar.split_plan(parts[-1].text)[0]))
    return found


def asked_in(pair: Pair) -> str:
    """What the user says in a pair, by which two runs know that they measured the same."""
    return " / ".join(pair.texts("user"))


def answered(model: UnifiedModel, asked: Sequence[Conversation], settings: ChatSettings) -> list[str]:
    """The raw reply to each conversation, with its plan if it has one. The same conversations get the same replies."""
    replies = [""] * len(asked)
    by_length: dict[int, list[int]] = {}
    for number, conversation in enumerate(asked):
        by_length.setdefault(len(conversation.turns), []).append(number)
    for numbers in by_length.values():
        for start in range(0, len(numbers), ROWS):
            some = numbers[start : start + ROWS]
            read = [[model.text(turn.text, turn.role) for turn in asked[number].turns] for number in some]
            for number, reply in zip(some, sample_replies(model, read, settings, SEED + some[0]), strict=True):
                replies[number] = reply
    return replies
