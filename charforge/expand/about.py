"""What of the user's words a character can say of itself, and what is said about it from outside.

A wiki tells of the game in which somebody occurs, a profile of how somebody talks: true, and nothing that the one it
is about would answer.
"""

from __future__ import annotations

import re

from charforge.words import word_set

_OF_A_WORK = re.compile(
    r"\b(?:playable|fictional|protagonist|antagonist|deuteragonist|gacha|voiced|voice (?:actor|actress|lines?)"
    r"|portrayed|promotional|tutorials?|franchise|spin-?off|fandom|in-game|storyline|cosplay|\d-?star|unlockable|DLC"
    r"|NPC|anime|manga|visual novel|sitcom|ranked match(?:es)?|bond level|level \d+|version \d|season (?:\d|one|two)"
    r"|(?:first|second|third|fourth|final) season|episodes?|characters?)\b"
    r"|\b(?:in|of|from|throughout|during) the (?:original |first |second |third )?"
    r"(?:series|show|games?|novels?|books?|films?|movies?|story)\b"
    r"|\bthe (?:series|players?|fans)\b|\bintroduced (?:as|in)\b",
    re.IGNORECASE,
)
_OF_SPEECH = word_set("""
    speech voice tone language grammar style accent vocabulary monologue wording pronunciation dialect catchphrase
    catchphrases diction register humour humor sentences phrases replies messages
""")
_SPEAKS = re.compile(r"^[\"“]?(?:speaks?|talks?|uses|refers|addresses|communicates|says|calls|answers|replies)\b")


def is_of_a_work(sentence: str) -> bool:
    """Whether a sentence tells of a game, a book or a film in which the character occurs."""
    return _OF_A_WORK.search(sentence) is not None


def is_of_speech(sentence: str, name: str) -> bool:
    """Whether a sentence says how the character talks: "Ann's tone is dry.", "Ann speaks in rhymes."."""
    possessive = re.match(
        rf"^(?:{re.escape(name)}'s?|My)\s+((?:[\w\"“”'-]+\s+){{0,3}}?)(?:is|are|was|tends?|has)\b", sentence
    )
    if possessive:
        return bool({re.sub(r"\W", "", word.lower()) for word in possessive[1].split()} & _OF_SPEECH)
    rest = re.sub(rf"^(?:{re.escape(name)}|I)\s+(?:(?:often|always|sometimes|usually|never|\w+ly)\s+)*", "", sentence)
    return _SPEAKS.match(rest) is not None
