"""A character folder, read and checked. No torch here."""

from charforge.character.character import Character, Dialogue, Lore, Picture, Role, Speaker, Turn
from charforge.character.pictures import load_picture
from charforge.character.read import Reading, read_character, read_folder

__all__ = [
    "Character",
    "Dialogue",
    "Lore",
    "Picture",
    "Reading",
    "Role",
    "Speaker",
    "Turn",
    "load_picture",
    "read_character",
    "read_folder",
]
