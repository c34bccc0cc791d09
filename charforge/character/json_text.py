"""JSON of strangers, parsed no deeper than anybody writes it."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100
"""Lists and objects inside each other. What is copied, compared and written later goes one call deeper for each."""


def parse_json(text: str) -> Any:
    """The value of ``text``. Raises json.JSONDecodeError, also for what is nested more than ``MAX_DEPTH`` deep."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", text, 0) from error
    # few brackets cannot be deep: most texts need no second look
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise json.JSONDecodeError("nested too deeply", text, 0)
    return value


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (inner for one in level for inner in (one.values() if isinstance(one, dict) else one))
        level = [inner for inner in inside if isinstance(inner, dict | list)]
        if not level:
            return False
    return True
