"""Data sets of other trainers: ShareGPT conversations, Alpaca instructions, prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charforge.character.notes import Notes
from charforge.character.readers.documents import Document
from charforge.character.readers.messages import Conversations, read_records
from charforge.character.speakers import Names

_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
ANSWERS = ("output", "completion", "response", "answer", "chosen")
_QUESTIONS = ("instruction", "prompt", "question", "query")


def is_sharegpt(values: Sequence[Any]) -> bool:
    """``{"conversations": [{"from": "human", "value": ...}]}``"""
    return any(bool(_sharegpt_turns(value)) for value in values)


def _sharegpt_turns(value: Any) -> list[Any]:
    for key in ("conversations", "conversation", "dialogue"):
        turns = value.get(key) if isinstance(value, dict) else None
        if isinstance(turns, list) and any(isinstance(turn, dict) and ({"from", "role"} & set(turn)) for turn in turns):
            return turns
    return []


def read_sharegpt(found: Document, names: Names, notes: Notes) -> Conversations:
    """``from`` is the role and ``value`` the text; a ``system`` beside the turns is a system text."""
    records = []
    for where, value in found.records:
        turns = [_message(turn) for turn in _sharegpt_turns(value)]
        if isinstance(value, dict) and isinstance(value.get("system"), str) and value["system"].strip():
            turns = [{"role": "system", "content": value["system"]}, *turns]
        records.append((where, {"messages": turns} if turns else value))
    return read_records(Document(found.file, records, found.torn), names, notes, strict=False)


def _message(turn: Any) -> Any:
    """One ShareGPT turn as a message."""
    if not isinstance(turn, dict):
        return turn
    role = turn.get("from", turn.get("role"))
    role = _SHAREGPT_ROLES.get(role.strip().lower(), role) if isinstance(role, str) else role
    text = turn.get("value", turn.get("content", turn.get("text")))
    kept = {key: turn[key] for key in ("name", "image", "weight") if key in turn}
    return {"role": role, "content": text, **kept}


def is_alpaca(values: Sequence[Any]) -> bool:
    """``{"instruction": ..., "input": ..., "output": ...}``, or a prompt with its completion."""
    return any(
        isinstance(value, dict)
        and any(isinstance(value.get(key), str) for key in _QUESTIONS)
        and any(key in value for key in ANSWERS)
        for value in values
    )


def read_alpaca(found: Document, names: Names, notes: Notes) -> Conversations:
    """One question and its answer a record; ``history`` holds the exchanges before it."""
    records = [(where, _exchange(value)) for where, value in found.records]
    return read_records(Document(found.file, records, found.torn), names, notes, strict=False)


def _exchange(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    asked = [value.get(key) for key in (*_QUESTIONS, "input") if isinstance(value.get(key), str) and value[key].strip()]
    answer = next((value[key] for key in ANSWERS if isinstance(value.get(key), str)), None)
    if not asked or answer is None:
        return value
    turns = [{"role": "system", "content": value["system"]}] if isinstance(value.get("system"), str) else []
    history = value["history"] if isinstance(value.get("history"), list) else []
    for before in history:
        if isinstance(before, list) and len(before) == 2:
            turns += [{"role": "user", "content": before[0]}, {"role": "assistant", "content": before[1]}]
    question = "\n".join(dict.fromkeys(str(part) for part in asked))
    return {"messages": [*turns, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
