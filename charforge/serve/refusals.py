"""Why a field of a request is refused: pydantic's findings, as sentences that say what to send instead."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

OF_TYPES = ("str", "constrained-str", "list[ContentPart]", "list[str]", "list[constrained-str]", "ImageUrl")
"""Steps on the way to a field that are of the check, and not of the request."""
LONGEST_SHOWN = 40
NUMBER, WHOLE, TEXT, SWITCH = "a number", "a whole number", "text", "true or false"
TAKEN = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "float_type": NUMBER, "float_parsing": NUMBER, "finite_number": NUMBER,
    "int_type": WHOLE, "int_parsing": WHOLE, "int_from_float": WHOLE, "int_parsing_size": "a smaller number",
    "bool_type": SWITCH, "bool_parsing": SWITCH,
    "string_type": TEXT, "string_unicode": "text of whole characters (half a surrogate pair is none)",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} letters",
    "list_type": "a list", "dict_type": "an object", "model_type": "an object", "model_attributes_type": "an object",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "literal_error": "{expected}",
}  # fmt: skip
"""What is taken, by the kind of pydantic's finding."""


def place_of(problem: Mapping[str, Any]) -> str:
    """The field, as its way from the body: "messages.0.content"."""
    return ".".join(str(part) for part in problem["loc"] if part != "body" and part not in OF_TYPES)


def in_words(problems: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The first thing wrong, in a sentence, and the field that has it.

    A field that takes several kinds has one finding for each: what lies deepest is of the kind that was meant.
    """
    field = place_of(problems[0])
    of_field = [one for one in problems if f"{place_of(one)}.".startswith(f"{field}.")]
    depth = max(len(place_of(one)) for one in of_field)
    deepest = [one for one in of_field if len(place_of(one)) == depth]
    place = place_of(deepest[0])
    named = place or "the body of the request"
    if deepest[0]["type"] == "missing":
        return f"{named}: it is missing, and nothing can be answered without it", place or None
    taken = list(dict.fromkeys(_taken(one) for one in deepest))
    return f"{named}: send {' or '.join(taken)}, not {shown(deepest[0]['input'])}", place or None


def shown(value: object) -> str:
    """What came, short enough for a sentence."""
    if isinstance(value, str):
        cut = value[:LONGEST_SHOWN]
        return json.dumps(cut) + (f" and {len(value) - len(cut)} more letters" if len(value) > len(cut) else "")
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    told = json.dumps(value)
    return told if len(told) <= LONGEST_SHOWN else f"a number of {len(told)} digits"


def _taken(problem: Mapping[str, Any]) -> str:
    if isinstance(value := problem["input"], float) and math.isnan(value):
        # compared with any bound, it is found on the wrong side
        return NUMBER
    taken = TAKEN.get(problem["type"])
    if taken is None:
        return f"something else ({problem['msg']})"
    bounds = problem.get("ctx", {})
    # of a field for any number a bound comes as 100.0
    return taken.format(**{name: f"{one:g}" if isinstance(one, float) else one for name, one in bounds.items()})
