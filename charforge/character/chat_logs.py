"""Chat logs of role-play front ends: JSON Lines with a header, then one message a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charforge.character.character import Dialogue
from charforge.character.dialogues import dialogue_from_records
from charforge.errors import Problem

MOST_TURNS = 6
"""A long evening is cut into conversations of this many turns: the base reads each as a whole."""
_HEADER_KEYS = {"user_name", "character_name", "chat_metadata"}


def is_chat_log(records: Sequence[Any]) -> bool:
    """Whether parsed lines are messages of a chat log rather than dialogues of our own."""
    return any(isinstance(record, dict) and "mes" in record and "is_user" in record for record in records)


def chat_log_dialogues(
    records: Sequence[tuple[int, Any]], file: str, name: str, problems: list[Problem]
) -> list[Dialogue]:
    """(line number, parsed line) pairs -> dialogues. System notes and hidden messages are passed over.

    A line that is neither header nor message becomes a problem.
    """
    turns: list[tuple[int, dict[str, Any]]] = []
    for number, record in records:
        if not isinstance(record, dict) or not ("mes" in record or _HEADER_KEYS & set(record)):
            problems.append(
                Problem(f"{file}:{number}", "error", "is no message of a chat log", "remove the line, or export again")
            )
            continue
        if not isinstance(record.get("mes"), str) or record.get("is_system"):
            continue
        extra = record["extra"] if isinstance(record.get("extra"), dict) else {}
        role = "user" if record.get("is_user") else "character"
        turn = {"role": role, "text": record["mes"]}
        if isinstance(extra.get("image"), str):
            turn["image"] = extra["image"]
        turns.append((number, turn))
    dialogues = []
    for part in _conversations(turns):
        found: list[Problem] = []
        dialogue = dialogue_from_records([turn for _, turn in part], f"{file}:{part[0][0]}", name, found)
        # a greeting that nobody answered is how many chats end: nothing to mend
        problems += [problem for problem in found if "one-sided" not in problem.problem]
        if dialogue is not None:
            dialogues.append(dialogue)
    return dialogues


def _conversations(turns: list[tuple[int, dict[str, Any]]]) -> list[list[tuple[int, dict[str, Any]]]]:
    """Cut before a user's turn once a part is long enough."""
    parts: list[list[tuple[int, dict[str, Any]]]] = []
    for turn in turns:
        if not parts or (len(parts[-1]) >= MOST_TURNS and turn[1]["role"] == "user"):
            parts.append([])
        parts[-1].append(turn)
    return parts
