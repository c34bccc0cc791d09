"""A card's document as every front end reads it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_DEFAULTS: dict[str, Any] = {
    "name": "", "description": "", "personality": "", "scenario": "", "first_mes": "", "mes_example": "",
    "creator_notes": "", "system_prompt": "", "post_history_instructions": "", "alternate_greetings": [], "tags": [],
    "creator": "", "character_version": "", "extensions": {},
}  # fmt: skip


def as_v3(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as V3 with every V2 field too: the specification contradicts itself, programs read both."""
    out = copy.deepcopy(dict(document))
    data = {**copy.deepcopy(_DEFAULTS), "group_only_greetings": [], **out.get("data", {})}
    return {**out, "spec": "chara_card_v3", "spec_version": _version(out), "data": data}


def _version(document: Mapping[str, Any]) -> str:
    """The document's own version when it is a newer V3, otherwise 3.0."""
    try:
        version = float(document.get("spec_version", 0))
    except (TypeError, ValueError):
        return "3.0"
    return str(document["spec_version"]) if document.get("spec") == "chara_card_v3" and version > 3 else "3.0"
