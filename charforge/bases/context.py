"""How much of a character a base reads: by its context and the preset. No torch, no weights."""

from __future__ import annotations

import json
from dataclasses import replace

from charforge.bases.where import find_base
from charforge.character import Character
from charforge.errors import InputError, MachineError
from charforge.room import LONG_CONTEXT, SHORT_CONTEXT, Room, room_for
from charforge.settings import Settings

MINI_CONTEXT = 8192
USUAL_CONTEXT = 32768
"""Of BAGEL-7B, and of a base whose files do not say."""


def context_tokens(base: str) -> int:
    """The tokens that a base can read at once, as its configuration says. Raises InputError for an unknown base."""
    if base == "mini":
        return MINI_CONTEXT
    try:
        file = find_base(base).config_folder / "llm_config.json"
    except MachineError:
        # known, and not here yet: `check` says what it would read
        return USUAL_CONTEXT
    if not file.is_file():
        return USUAL_CONTEXT
    try:
        said = json.loads(file.read_text("utf-8")).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file} is not a readable configuration: fetch the base again") from error
    return said if isinstance(said, int) and said > 0 else USUAL_CONTEXT


def room_of(settings: Settings) -> Room:
    """The room in the prompts of a run: the preset's where it says so, else what suits the base."""
    usual = SHORT_CONTEXT if settings.base == "mini" else LONG_CONTEXT
    given = {name: value for name, value in settings.prompt.model_dump().items() if value is not None}
    return room_for(context_tokens(settings.base), replace(usual, **given))


def fitted(character: Character, settings: Settings) -> Character:
    """The character with as much room in its prompts as a run with ``settings`` gives it."""
    return replace(character, room=room_of(settings))
