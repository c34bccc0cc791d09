"""JSON Lines: our own dialogues, message lists, and the chat logs of front ends, told apart by what the lines hold."""

from __future__ import annotations

import json
from typing import Any

from charforge.character.character import Dialogue
from charforge.character.chat_logs import chat_log_dialogues, is_chat_log
from charforge.character.dialogues import dialogue_from_records
from charforge.errors import Problem


def parse_jsonl(text: str, file: str, name: str, problems: list[Problem]) -> list[Dialogue]:
    """One dialogue a line, ``{"turns": [...]}`` or ``{"messages": [...]}``, or the chat log of a front end.

    Bad lines become problems.
    """
    records: list[tuple[int, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            remedy = "write one JSON object a line"
            problems.append(Problem(f"{file}:{number}", "error", f"is not JSON ({reason})", remedy))
    if is_chat_log([record for _, record in records]):
        return chat_log_dialogues(records, file, name, problems)
    dialogues: list[Dialogue] = []
    for number, record in records:
        origin = f"{file}:{number}"
        turns = record.get("turns", record.get("messages")) if isinstance(record, dict) else None
        if not isinstance(turns, list):
            remedy = 'write {"turns": [{"role": "user", "text": "..."}, ...]}'
            problems.append(Problem(origin, "error", 'has no list "turns"', remedy))
            continue
        dialogue = dialogue_from_records(turns, origin, name, problems)
        if dialogue is not None:
            dialogues.append(dialogue)
    return dialogues
