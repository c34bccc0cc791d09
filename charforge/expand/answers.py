"""What a language model answers: JSON in one of a few forms, checked before anything is made of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charforge.expand.scenes import Kind

NO_JSON, CUT_OFF, WRONG_FORM = "no JSON in the answer", "the answer was cut off", "an item has another form"


class _Item(BaseModel):
    # a model may add a key of its own; what is asked for must be there
    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)


class Exchange(_Item):
    """A visitor's line and what the character answers."""

    visitor: str = Field(min_length=1)
    reply: str = Field(min_length=1)


class Conversation(_Item):
    """Exchanges that follow from one another."""

    turns: tuple[Exchange, ...] = Field(min_length=2, max_length=4)


class PicturedExchange(Exchange):
    """An answer that comes with a picture, and what the picture shows."""

    picture: str = Field(min_length=1)


class NumberedReply(_Item):
    """The answer to one of the lines that were given, by its number from 1."""

    number: int = Field(ge=1)
    reply: str = Field(min_length=1)


class Known(_Item):
    """A question about one sentence, its answer, and answers that are wrong."""

    sentence: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    wrong: tuple[str, ...] = ()


class Seen(_Item):
    """A question about a picture, its answer, and answers that are wrong."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    wrong: tuple[str, ...] = ()


class Detail(_Item):
    """One thing that a new picture shows, and others of its kind that it does not."""

    kind: Kind
    words: str = Field(min_length=1)
    others: tuple[str, ...] = Field(min_length=1)


class SceneIdea(_Item):
    """A new picture by its details."""

    details: tuple[Detail, ...] = Field(min_length=2, max_length=4)


Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class Parsed(Generic[Form]):
    """The items of an answer that have the right form; ``problems`` are the reasons of what was not."""

    items: tuple[Form, ...]
    problems: tuple[str, ...]


def parse(text: str, form: type[Form]) -> Parsed[Form]:
    """The items in an answer, however much talk stands around them; whole ones also of an answer that was cut off."""
    start = re.search(r"[\[{]", text)
    if start is None:
        return Parsed((), (NO_JSON,))
    found, ended = _values(text[start.start() :])
    if not found:
        return Parsed((), (CUT_OFF if not ended else NO_JSON,))
    items: list[Form] = []
    problems: list[str] = [] if ended else [CUT_OFF]
    for value in found:
        try:
            items.append(form.model_validate(value))
        except ValidationError:
            problems.append(WRONG_FORM)
    return Parsed(tuple(items), tuple(problems))


def _values(text: str) -> tuple[list[object], bool]:
    """The objects of the first list (or the objects that stand side by side), and whether the text ends after them."""
    decoder = json.JSONDecoder(strict=False)
    values: list[object] = []
    position = 1 if text.startswith("[") else 0
    in_list = text.startswith("[")
    while True:
        gap = re.match(r"[\s,]*", text[position:])
        position += gap.end() if gap else 0
        if position >= len(text):
            return values, not in_list
        if in_list and text[position] == "]":
            return values, True
        if text[position] != "{":
            # talk after the objects; inside a list it is no JSON any more
            return values, not in_list
        try:
            value, end = decoder.raw_decode(text[position:])
        except (ValueError, RecursionError):
            return values, False
        values.append(_unwrapped(value))
        position += end


def _unwrapped(value: object) -> object:
    """What stands inside a single outer key: {"exchange": {...}} -> {...}."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        return inner
    return value
