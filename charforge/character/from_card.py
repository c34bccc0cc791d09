"""A character out of a card alone: enough to talk to it on the bare base."""

from __future__ import annotations

from pathlib import Path

from charforge.character.cards.card import Card
from charforge.character.cards.convert import card_dialogues, card_profile, card_texts, one_line
from charforge.character.character import Character
from charforge.character.ledger import Ledger
from charforge.character.notes import Notes
from charforge.character.people import named_in
from charforge.character.speakers import Names
from charforge.character.understanding import understood
from charforge.errors import InputError


def card_character(card: Card, file: str) -> Character:
    """The character that a card describes, without pictures; ``file`` names it in errors.

    Raises InputError when the card has no name.
    """
    notes = Notes()
    names = Names.of(one_line(card.name), [one_line(card.nickname)], (), named_in(card_texts(card)))
    if not names.name:
        raise InputError(f"{file} has no name: write one into the card")
    described = card_profile(card, names, file, notes)
    profile = described.profile
    character = Character(
        name=names.name,
        class_noun=profile.class_noun,
        about=profile.about,
        profile_text=profile.text,
        persona=profile.persona,
        voice=profile.voice,
        appearance=profile.appearance,
        facts=tuple(dict.fromkeys(profile.facts)),
        opening=profile.opening,
        author=profile.author,
        license=profile.license,
        pictures=(),
        dialogues=tuple(card_dialogues(card, names, file, notes)),
        folder=Path(),
        card=card.document,
        lore=described.lore,
        ledger=Ledger(tuple(notes.entries)),
    )
    return understood(character)
