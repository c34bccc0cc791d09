"""Dialogues as people write them (records or plain text) -> Dialogue."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from charforge.character.character import Dialogue, Role, Turn
from charforge.errors import Problem

USER_ROLES = {"user", "human", "you", "me", "{{user}}"}
CHARACTER_ROLES = {"character", "assistant", "machine", "char", "bot", "gpt", "model", "{{char}}"}
IGNORED_ROLES = {"system", "developer"}
TURN_KEYS = {"role", "text", "content", "image", "name"}

_SPEAKER = re.compile(r"^\s*(?:[-*>+]\s+)?[*_]{0,3}(?P<who>[^:*_\[\]]{1,60}?)[*_]{0,3}\s*:[*_]{0,3}\s*(?P<text>.*)$")
_DIVIDER = re.compile(r"^\s*(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,}|<START>|#{1,6}\s.*)\s*$")
_IMAGE_MARK = re.compile(r"\[(?:image|picture):\s*([^\[\]]+?)\s*\]|!\[[^\]]*\]\(([^()\s]+)\)", re.IGNORECASE)


def role_of(word: str, name: str) -> Role | None:
    """Who speaks, from what the file calls them: a role word or the character's name (or first name)."""
    word = word.strip().casefold()
    if word in USER_ROLES:
        return "user"
    if word in CHARACTER_ROLES or (name and word in {name.casefold(), name.casefold().split()[0]}):
        return "character"
    return None


def image_name(value: object) -> str | None:
    """ "images/03.png", "03.png", "03" and 3 all name a picture; None for nothing."""
    if value is None or isinstance(value, bool) or not str(value).strip():
        return None
    path = PurePosixPath(str(value).strip().replace("\\", "/"))
    return path.stem if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"} else path.name


def dialogue_from_records(records: list[Any], origin: str, name: str, problems: list[Problem]) -> Dialogue | None:
    """A dialogue from ``{"role", "text" or "content", "image"?}`` records; None when it is a problem."""
    turns: list[Turn] = []
    for position, record in enumerate(records, start=1):
        where = f"turn {position}"
        if not isinstance(record, dict) or not isinstance(record.get("role"), str):
            problems.append(
                Problem(origin, "error", f"{where} has no role", 'give it "role": "user" or "role": "character"')
            )
            return None
        if record["role"].strip().casefold() in IGNORED_ROLES:
            continue
        role = role_of(record["role"], name)
        if role is None:
            problems.append(
                Problem(origin, "error", f"{where} has the role {record['role']!r}", 'use "user" or "character"')
            )
            return None
        unknown = sorted(set(record) - TURN_KEYS)
        if unknown:
            problems.append(
                Problem(
                    origin,
                    "warning",
                    f"{where} has keys that are not read: {', '.join(unknown)}",
                    "a turn has role, text and image",
                )
            )
        text, image = _content(record)
        if text is None:
            problems.append(Problem(origin, "error", f"{where} has no text", 'give it "text": "..."'))
            return None
        turns.append(Turn(role, text.strip(), image_name(record.get("image")) or image))
    return _finished(turns, origin, problems)


def _content(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Text and picture of one record; OpenAI's list of content items included."""
    value = record.get("text", record.get("content"))
    if isinstance(value, str):
        return value, None
    if not isinstance(value, list):
        return None, None
    texts: list[str] = []
    image: str | None = None
    for item in value:
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("text"), str):
            texts.append(item["text"])
        url = item.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str):
            image = image_name(url)
    return "\n".join(texts), image


def parse_text(text: str, file: str, name: str, problems: list[Problem]) -> list[Dialogue]:
    """ "User: ..." and "NAME: ..." blocks.

    A new dialogue starts at a line of dashes or a heading, or where a user line follows an empty line.
    A turn may run over several lines; ``[image: 03]`` or a Markdown picture names the picture sent with it.
    """
    dialogues: list[Dialogue] = []
    turns: list[Turn] = []
    start, after_empty = 1, False

    def close() -> None:
        if turns:
            dialogue = _finished(list(turns), f"{file}:{start}", problems)
            if dialogue is not None:
                dialogues.append(dialogue)
            turns.clear()

    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            after_empty = True
            continue
        if _DIVIDER.match(line):
            close()
            continue
        speaker = _SPEAKER.match(line)
        role = role_of(speaker["who"], name) if speaker else None
        if speaker and role is not None:
            if role == "user" and after_empty and turns and turns[-1].role == "character":
                close()
            start = start if turns else number
            words, image = _without_image_mark(speaker["text"])
            turns.append(Turn(role, words, image))
        elif turns:
            words, image = _without_image_mark(line.strip())
            last = turns[-1]
            joined = "\n".join(part for part in (last.text, words) if part)
            turns[-1] = Turn(last.role, joined, image or last.image)
        else:
            problems.append(
                Problem(
                    f"{file}:{number}",
                    "warning",
                    "stands before the first speaker and is not read",
                    f'start the line with "User:" or "{name or "NAME"}:"',
                )
            )
        after_empty = False
    close()
    return dialogues


def _without_image_mark(text: str) -> tuple[str, str | None]:
    marks = list(_IMAGE_MARK.finditer(text))
    image = image_name(marks[-1][1] or marks[-1][2]) if marks else None
    return re.sub(r"[ \t]{2,}", " ", _IMAGE_MARK.sub("", text)).strip(), image


def _finished(turns: list[Turn], origin: str, problems: list[Problem]) -> Dialogue | None:
    """Join turns of one side that follow each other, and refuse what teaches nothing."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            last = merged.pop()
            joined = "\n".join(part for part in (last.text, turn.text) if part)
            merged.append(Turn(turn.role, joined, turn.image or last.image))
        else:
            merged.append(turn)
    if not any(turn.text for turn in merged):
        problems.append(Problem(origin, "error", "is empty", "write both sides, or remove it"))
        return None
    if {turn.role for turn in merged} != {"user", "character"}:
        only = "the user" if merged[0].role == "user" else "the character"
        problems.append(Problem(origin, "error", f"is one-sided: only {only} speaks", "write both sides, or remove it"))
        return None
    if any(not turn.text for turn in merged):
        problems.append(Problem(origin, "error", "has a turn without words", "write its words, or remove it"))
        return None
    if merged[-1].role == "user":
        problems.append(
            Problem(origin, "warning", "ends with the user: the last line is not used", "write the reply to it")
        )
        merged.pop()
    if not any(turn.role == "user" for turn in merged):
        problems.append(Problem(origin, "error", "has no reply to the user", "write the reply after the question"))
        return None
    return Dialogue(tuple(merged), origin)


def check_images(
    dialogues: Iterable[Dialogue], names: list[str], strict: bool, problems: list[Problem]
) -> list[Dialogue]:
    """Turns that name a picture nobody sent: an error when ``strict``, else dropped with a warning."""
    known = set(names)
    checked: list[Dialogue] = []
    for dialogue in dialogues:
        turns: list[Turn] = []
        for turn in dialogue.turns:
            image = turn.image
            if image is not None and image not in known:
                near = difflib.get_close_matches(image, names, 1) or [n for n in names if n.lstrip("0") == image][:1]
                if strict:
                    remedy = f"did you mean {near[0]!r}?" if near else "add the picture to images/, or remove its name"
                    problems.append(
                        Problem(
                            dialogue.origin,
                            "error",
                            f"names the picture {image!r}, which nobody sent",
                            remedy,
                        )
                    )
                else:
                    problems.append(
                        Problem(
                            dialogue.origin,
                            "warning",
                            f"names the picture {image!r}, which nobody sent: the words are kept without it",
                            "add the picture, or remove its name",
                        )
                    )
                image = None
            turns.append(Turn(turn.role, turn.text, image))
        checked.append(Dialogue(tuple(turns), dialogue.origin))
    return checked
