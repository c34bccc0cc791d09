"""Lines of the form "Key: value" in a profile: which keys are about the character, and how one asks for them.

A profile's lists hold anything: ranks, dates of release, the names of actors. A key that is not here is no question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from charforge import grammar

LONGEST_VALUE = 12
"""Words. A longer value is prose, and prose has rules of its own."""
_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_DATE = re.compile(rf"\b(?:{_MONTHS})\b|\b\d{{4}}\b")


@dataclass(frozen=True)
class Key:
    """What a key is asked with, and how its value becomes an answer (None where the value has another form)."""

    question: str
    third: str
    answer: Callable[[str], str | None]


def _plainly(start: str, end: str = ".") -> Callable[[str], str | None]:
    return lambda value: f"{start}{value}{end}"


def _listed(start: str) -> Callable[[str], str | None]:
    """ "Tea, Rain" -> "I like tea and rain."."""
    return lambda value: f"{start}{_joined(_uncapitalised(value.split(',')))}."


def _uncapitalised(items: list[str]) -> list[str]:
    """A list in which every item begins with a capital is written so throughout: the words are none of their own."""
    items = [item.strip() for item in items if item.strip()]
    of_a_list = all(re.match(r"[A-Z][a-z]", item) and not re.search(r"[A-Z]", item[1:]) for item in items)
    return [item[0].lower() + item[1:] for item in items] if of_a_list and " ".join(items).count(" ") else items


def _joined(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _kind(value: str) -> str:
    """Of a list the first: "British Shorthair, Silver Tabby" are two words for one animal."""
    return f"I am {grammar.with_article(value.split(',')[0].strip())}."


def _aged(value: str) -> str | None:
    found = re.fullmatch(r"(?:about |around )?(\d+|[a-z]+(?:-[a-z]+)?)(?: years?(?: old)?)?", value)
    if not found or (found[1].isalpha() and found[1] in ("unknown", "none", "varies", "ageless", "immortal", "adult")):
        return None
    return f"I am {value.removesuffix(' old')}{' old' if 'year' in value else ' years old'}."


def _born(value: str) -> str | None:
    if not _DATE.search(value):
        return None
    on = "in" if re.fullmatch(rf"(?:(?:{_MONTHS}) )?\d{{4}}", value) else "on"
    return f"I was born {on} {value}."


def _birthday(value: str) -> str | None:
    return f"My birthday is {value}." if _DATE.search(value) else None


def _tall(value: str) -> str | None:
    return f"I am {value} tall." if re.match(r"^\d", value) and "tall" not in value else None


def _heavy(value: str) -> str | None:
    return f"I weigh {value}." if re.match(r"^\d", value) else None


def _works(value: str) -> str | None:
    """ "Athlete, Commentator" -> "I am an athlete and a commentator."; only plain words surely are no titles."""
    jobs = [job.strip() for job in value.split(",")]
    if not all(re.fullmatch(r"[A-Z]?[a-z-]+(?: [a-z-]+){0,3}", job) for job in jobs):
        return None
    return f"I am {_joined([grammar.with_article(job[0].lower() + job[1:]) for job in jobs])}."


def _lives(value: str) -> str | None:
    if re.match(r"^(?:in|at|on|near|above|under|behind|by)\s", value, re.IGNORECASE):
        return f"I live {value[0].lower()}{value[1:]}."
    if re.match(r"^[A-Z]", value) and not re.match(r"^(?:An?|The|His|Her|My)\s", value):
        return f"I live in {value}."
    return f"My home is {value[0].lower()}{value[1:]}."


_NAMED_KEYS = {
    ("full name", "real name", "birth name", "true name"): Key(
        "What is your full name?", "What is {}'s full name?", _plainly("My full name is ")
    ),
    ("nickname",): Key("What is your nickname?", "What is {}'s nickname?", _plainly("My nickname is ")),
    ("age",): Key("How old are you?", "How old is {}?", _aged),
    ("born", "date of birth"): Key("When were you born?", "When was {} born?", _born),
    ("birthday",): Key("When is your birthday?", "When is {}'s birthday?", _birthday),
    ("birthplace", "place of birth"): Key("Where were you born?", "Where was {} born?", _plainly("I was born in ")),
    ("hometown",): Key("What is your hometown?", "What is {}'s hometown?", _plainly("My hometown is ")),
    ("height",): Key("How tall are you?", "How tall is {}?", _tall),
    ("weight",): Key("How much do you weigh?", "How much does {} weigh?", _heavy),
    ("breed",): Key("What breed are you?", "What breed is {}?", _kind),
    ("species", "race"): Key("What species are you?", "What species is {}?", _kind),
    ("nationality",): Key("What is your nationality?", "What is {}'s nationality?", _plainly("My nationality is ")),
    ("job", "occupation", "profession", "work"): Key("What is your job?", "What is {}'s job?", _works),
    ("home", "lives in", "residence", "lives"): Key("Where do you live?", "Where does {} live?", _lives),
    ("likes", "loves", "preferences"): Key("What do you like?", "What does {} like?", _listed("I like ")),
    ("dislikes", "hates"): Key("What do you dislike?", "What does {} dislike?", _listed("I dislike ")),
    ("fears", "fear", "afraid of"): Key("What are you afraid of?", "What is {} afraid of?", _listed("I am afraid of ")),
    ("hobbies", "hobby"): Key("What are your hobbies?", "What are {}'s hobbies?", _listed("My hobbies are ")),
}  # fmt: skip
_KEYS = {name: key for names, key in _NAMED_KEYS.items() for name in names}
_WHO = "owner|best friend|rival|mentor|teacher|coach|mother|father|sister|brother|wife|husband|partner|enemy|boss"
_WHAT = (
    r"fav(?:ou?)rite \w+(?: \w+)?|dream|goal|motto|pet|familiar|instrument|greatest fear|biggest fear"
    r"|secret|lucky number|star sign|zodiac sign|blood type"
)


def of_key(name: str, key: str, value: str) -> list[tuple[str, str]]:
    """Questions and answers for a line "Key: value", in the second and the third person; none for other keys."""
    lowered = " ".join(key.lower().split())
    # "April 8, 2001 (age 25)", "Domestic Longhair."
    value = re.sub(r"\s*\([^)]*\)", "", value).strip().rstrip(".;,")
    if not value or len(value.split()) > LONGEST_VALUE or re.search(r"https?:|[;|/<>]|:\s", value):
        return []
    # "Secret: is afraid of forks" has a verb of its own
    if re.search(r"\b(?:he|she|him|they|them)\b|^(?:is|are|was|were|has|can)\b", value, re.IGNORECASE):
        return []
    value = re.sub(r"\b(?:his|her)\b", "my", value)
    known = _KEYS.get(lowered)
    if known is not None:
        answer = known.answer(value)
        return [(known.question, answer), (known.third.format(name), answer)] if answer else []
    for asking, keys in (("Who", _WHO), ("What", _WHAT)):
        if re.fullmatch(keys, lowered):
            told = _uncapitalised([value])[0] if asking == "What" else value
            answer = f"My {lowered} is {re.sub(r'^(?:The|An?)(?= )', lambda article: article[0].lower(), told)}."
            return [(f"{asking} is your {lowered}?", answer), (f"{asking} is {name}'s {lowered}?", answer)]
    return []
