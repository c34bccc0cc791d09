"""Conversations as files: the JSON Lines of SillyTavern, which many programs import, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from charforge import grammar
from charforge.chat.group import Line
from charforge.errors import InputError
from charforge.files import write_atomic, write_atomic_with

USER = "You"
LONGEST = 32 << 20
"""Bytes of a conversation that is read back."""


def save_conversation(file: Path, lines: Sequence[Line], names: Sequence[str]) -> None:
    """Write ``lines`` to ``file``, and the pictures in them beside it, in a folder of its name."""
    now = datetime.now().isoformat(timespec="seconds")
    rows: list[dict[str, Any]] = [
        {"user_name": USER, "character_name": ", ".join(names), "create_date": now, "chat_metadata": {}}
    ]
    for number, line in enumerate(lines):
        extra: dict[str, Any] = {}
        if line.speaker and line.text != line.shown:
            extra["charforge"] = {"text": line.text}
        pictures = [line.picture] if line.picture else list(line.images)
        for place, picture in enumerate(pictures):
            path = Path(file.stem) / f"{number:03d}-{place}.png"
            write_atomic_with(file.parent / path, lambda to, picture=picture: picture.save(to, "PNG"))  # type: ignore[misc]
            extra.setdefault("image", path.as_posix())
        name, is_user = (line.speaker, False) if line.speaker else (USER, True)
        rows.append({"name": name, "is_user": is_user, "send_date": now, "mes": line.shown, "extra": extra})
    write_atomic(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def load_conversation(file: Path, names: Sequence[str]) -> list[Line]:
    """The lines of a conversation that any program wrote in this form, without its pictures.

    Who is no user and has a name that is not among ``names`` speaks for the first of them. Raises InputError naming
    what cannot be read.
    """
    try:
        if file.stat().st_size > LONGEST:
            raise InputError(f"{file} is larger than {LONGEST >> 20} MB: name the file of one conversation")
        # not splitlines(): that also cuts at separators that may stand within a record's text
        rows = [json.loads(row) for row in file.read_text("utf-8-sig").split("\n") if row.strip()]
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): name a conversation that was saved") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no conversation: one JSON record a line is expected") from error
    lines = []
    for row in rows:
        # rows of the system are for people: SillyTavern hides them from the model
        if not isinstance(row, dict) or not isinstance(row.get("mes"), str) or row.get("is_system"):
            continue
        speaker = None
        if not row.get("is_user"):
            speaker = str(row.get("name")) if row.get("name") in names else names[0]
        lines.append(Line(speaker, _whole(row) if speaker else row["mes"]))
    if not lines:
        raise InputError(f"{file} holds no messages: name a conversation that was saved")
    return lines


def _whole(row: dict[str, Any]) -> str:
    """A character's words with their plan, where this program wrote them and nobody has changed them since."""
    extra = row.get("extra")
    own = extra.get("charforge") if isinstance(extra, dict) else None
    text = own.get("text") if isinstance(own, dict) else None
    return text if isinstance(text, str) and grammar.split_plan(text)[0] == row["mes"] else row["mes"]
