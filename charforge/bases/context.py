"""How much of a character a base reads: by its context and the preset. No torch, no weights."""

from __future__ import annotations

from dataclasses import replace

from charforge.bases.where import base_shapes
from charforge.character import Character
from charforge.room import LONG_CONTEXT, SHORT_CONTEXT, Room, room_for
from charforge.settings import Settings


def room_of(settings: Settings) -> Room:
    """The room in the prompts of a run: the preset's where it says so, else what suits the base.

    Raises InputError for a base that does not exist.
    """
    usual = SHORT_CONTEXT if settings.base == "mini" else LONG_CONTEXT
    given = {name: value for name, value in settings.prompt.model_dump().items() if value is not None}
    return room_for(base_shapes(settings.base).context_tokens, replace(usual, **given))


def fitted(character: Character, settings: Settings) -> Character:
    """The character with as much room in its prompts as a run with ``settings`` gives it."""
    return replace(character, room=room_of(settings))
