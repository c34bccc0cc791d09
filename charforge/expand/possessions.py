"""Questions about what a character has: "Bo's tail is curly" -> "What is your tail like?".

A question must fit what its fact says: a name, an age, a place and a property are asked for in different words. What
fits none of them is only told about.
"""

from __future__ import annotations

import re

from charforge.character.nouns import names_a_being
from charforge.words import word_set

_NAMED_THINGS = word_set("""
    favourite favorite name job breed age birthday home colour color motto dream secret hobby dish food drink
    number wish instrument nickname occupation species motivation motivations goal goals interests
    weakness weaknesses strength strengths fear fears talent talents skill skills specialty speciality hobbies passion
    obsession phobia flaw flaws vice task duty catchphrase
""")
PLACES = word_set("""
    in on at above under near behind inside by below beside
""")
PEOPLE = word_set("""
    friend brother sister mother father owner boss teacher master rival enemy partner uncle aunt coach husband wife
    neighbour neighbor grandmother grandfather mentor apprentice maker creator cousin daughter son
    friends brothers sisters parents owners teachers rivals enemies children grandparents neighbours neighbors
    ally allies colleague colleagues classmate classmates teammate teammates kid kids mum mom dad grandpa grandma pupil
    pupils fans daughters sons
""")
BODY = word_set("""
    coat fur body face eyes hair skin tail ears whiskers beard horns wings scales freckles legs arms hands nose teeth
    build frame figure feathers beak mane paws belly smile voice
""")
_MEASURED = re.compile(
    r"(?:(?:about|almost|nearly|over|around|only|just|some)\s+)?"
    r"(?:\d[\d.,]*|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:[a-z]+-)?[a-z]+(?:teen|ty)"
    r"|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)-[a-z]+|hundreds of|thousands of)"
    r"(?:\s*[\w²%]+){1,3}?\s+(old|long|tall|high|wide|deep|heavy|thick)\.?"
)
"""About 300 years old: the adjective is what one asks for."""
_DAYS = word_set("birthday anniversary nameday wedding")
_PROPER = re.compile(r"(?:[A-Z][\w'’-]*\s?)+\.?")
_PEOPLES = re.compile(r"[A-Z][a-z]+(?:ian|ean|ish|ese|ch|i)\.?")
_SOMEWHERE = re.compile(rf"(?:{'|'.join(sorted(PLACES))})\s+(?:the|my|[A-Z])")


def of_possession(name: str, answer: str, thing: str, be: str, rest: str) -> list[tuple[str, str]]:
    """Questions about ``thing`` of the character, which ``be`` ("is", "were") ``rest``; ``answer`` says so.

    "Bo's tail is curly" -> "What is your tail like?"; "Bo's owner is Ann" -> "Who is your owner?".
    """
    form = _question(thing, be, rest)
    if not form:
        return [(f"Tell me about your {thing}.", answer)]
    return [(form.format(f"your {thing}"), answer), (form.format(f"{name}'s {thing}"), answer)]


def _question(thing: str, be: str, rest: str) -> str:
    """The question with a place for the thing and whose it is; empty where none surely fits."""
    head = thing.split()[-1].lower()
    if head in PEOPLE:
        # "My sister is tall" says nothing of who she is
        known = re.match(r"^(?:an?|the|called|named|my|her|his|[A-Z])", rest) is not None
        return f"Who {be} {{}}?" if known else ""
    if re.match(r"^(?:called|named)\s(?!after\b|for\b|by\b)", rest):
        return f"What {be} {{}} called?"
    if measured := _MEASURED.fullmatch(rest):
        return f"How {measured[1]} {be} {{}}?"
    if head in _DAYS and re.match(r"^(?:on|in)\s|^\d|^[A-Z]", rest):
        return f"When {be} {{}}?"
    if rest.startswith("from "):
        return f"Where {be} {{}} from?"
    if set(thing.lower().split()) & _NAMED_THINGS:
        return f"What {be} {{}}?"
    if re.match(rf"^(?:{'|'.join(sorted(PLACES))})\s", rest) and head not in BODY:
        return f"Where {be} {{}}?" if _SOMEWHERE.match(rest) else ""
    if (be in ("was", "were") and head not in BODY) or rest.startswith("named "):
        return ""
    named = re.match(r"^(?:an?|the|my|his|her|its|their|to|that|\d|[A-Z\"'“])", rest)
    if named is None or head in BODY:
        return f"What {be} {{}} like?"
    if names_a_being(head):
        # nobody asks "What is your dog?"
        return f"What {be} {{}} called?" if _PROPER.fullmatch(rest) and not _PEOPLES.fullmatch(rest) else ""
    return f"What {be} {{}}?"
