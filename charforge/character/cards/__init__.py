"""Character cards (V1, V2, V3, Agnai, Pygmalion) in pictures, JSON and CHARX files, and lorebooks.

A card is hostile until checked.
"""

from charforge.character.cards.card import Card, parse_card
from charforge.character.cards.containers import read_card, read_card_bytes
from charforge.character.cards.lorebook import Entry, parse_lorebook

__all__ = [
    "Card",
    "Entry",
    "parse_card",
    "parse_lorebook",
    "read_card",
    "read_card_bytes",
]
