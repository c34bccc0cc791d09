"""A character folder, read and checked. No torch here."""

from charforge.character.character import Character, Dialogue, Picture, Role, Turn
from charforge.character.pictures import load_picture
from charforge.character.read import check_character, read_character

__all__ = [
    "Character",
    "Dialogue",
    "Picture",
    "Role",
    "Turn",
    "check_character",
    "load_picture",
    "read_character",
]
