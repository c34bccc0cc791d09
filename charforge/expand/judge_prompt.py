"""What of the persona a base reads before every conversation, and what it has no room for."""

from __future__ import annotations

from charforge import grammar
from charforge.character.character import Character
from charforge.character.profile import sentences
from charforge.errors import Problem

SHOWN = 60
"""Letters of the first sentence that is not read."""


def unread_sentences(character: Character) -> list[str]:
    """The sentences of the whole persona that the system prompt has no room for, in order."""
    prompt = grammar.system_prompt(character)
    # what was cut in the middle is not read whole
    return [sentence for sentence in sentences(grammar.whole_persona(character)) if sentence not in prompt]


def judge_prompt(character: Character, base: str) -> list[Problem]:
    """A warning that names what ``base`` does not read; ``character`` has the room of the run."""
    unread = unread_sentences(character)
    if not unread:
        return []
    every = len(sentences(grammar.whole_persona(character)))
    first = unread[0] if len(unread[0]) <= SHOWN else f"{unread[0][:SHOWN].rstrip()} ..."
    return [
        Problem(
            "persona",
            "warning",
            f"{base} reads {every - len(unread)} of its {every} sentences before a conversation; the first that it "
            f"does not: {first!r}",
            "put what matters most first; what begins with the name is learned as a fact all the same",
        )
    ]
