"""Conversations as files: the JSON Lines of SillyTavern, which many programs import, and back."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from charforge import grammar
from charforge.chat.group import Line
from charforge.errors import InputError
from charforge.files import write_atomic, write_atomic_with

USER = "You"
LONGEST = 256 << 20
"""Bytes of a conversation that is read back; one that was exported by the page has its pictures within."""
MOST_PIXELS, LONGEST_SIDE, MOST_PICTURES = 24_000_000, 1024, 256
"""What is read of pictures: a small file may hold a very large one."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


@dataclass(frozen=True)
class Loaded:
    """A conversation from a file. ``left_out`` pictures are named in it and could not be read."""

    lines: list[Line]
    left_out: int = 0


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
        paths = [Path(file.stem) / f"{number:03d}-{place}.png" for place in range(len(pictures))]
        for path, picture in zip(paths, pictures, strict=True):
            write_atomic_with(file.parent / path, lambda to, picture=picture: picture.save(to, "PNG"))  # type: ignore[misc]
        if paths:
            extra["image"] = paths[0].as_posix()
        if len(paths) > 1:
            # SillyTavern knows one picture a message
            extra.setdefault("charforge", {})["images"] = [path.as_posix() for path in paths]
        name, is_user = (line.speaker, False) if line.speaker else (USER, True)
        rows.append({"name": name, "is_user": is_user, "send_date": now, "mes": line.shown, "extra": extra})
    write_atomic(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def load_conversation(file: Path, names: Sequence[str]) -> Loaded:
    """The lines of a conversation that any program wrote in this form, with the pictures in it and beside it.

    Who is no user and has a name that is not among ``names`` speaks for the first of them. Raises InputError
    naming what cannot be read.
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
    lines: list[Line] = []
    left_out = pictures_read = 0
    for row in rows:
        # rows of the system are for people: SillyTavern hides them from the model
        if not isinstance(row, dict) or not isinstance(row.get("mes"), str) or row.get("is_system"):
            continue
        speaker = None
        if not row.get("is_user"):
            speaker = str(row.get("name")) if row.get("name") in names else names[0]
        named = _pictures_named(row)
        read = [_picture(address, file) for address in named[: MOST_PICTURES - pictures_read]]
        pictures = [picture for picture in read if picture is not None]
        left_out += len(named) - len(pictures)
        pictures_read += len(pictures)
        if speaker:
            lines.append(Line(speaker, _whole(row), picture=pictures[0] if pictures else None))
        else:
            lines.append(Line(None, row["mes"], tuple(pictures)))
    if not lines:
        raise InputError(f"{file} holds no messages: name a conversation that was saved")
    return Loaded(lines, left_out)


def _whole(row: dict[str, Any]) -> str:
    """A character's words with their plan, where this program wrote them and nobody has changed them since."""
    text = _own(row).get("text")
    return text if isinstance(text, str) and grammar.split_plan(text)[0] == row["mes"] else row["mes"]


def _own(row: dict[str, Any]) -> dict[str, Any]:
    """What this program wrote into a row."""
    extra = row.get("extra")
    own = extra.get("charforge") if isinstance(extra, dict) else None
    return own if isinstance(own, dict) else {}


def _pictures_named(row: dict[str, Any]) -> list[str]:
    named = _own(row).get("images")
    if not isinstance(named, list):
        extra = row.get("extra")
        named = [extra.get("image")] if isinstance(extra, dict) else []
    return [address for address in named if isinstance(address, str) and address]


def _picture(address: str, file: Path) -> Image.Image | None:
    """A picture of a row of ``file``: itself as a data URL, or its path, in the folder of the file's name beside it."""
    try:
        if address.startswith("data:"):
            data = base64.b64decode(address.partition(",")[2], validate=True)
        else:
            # a conversation may come from anybody: nothing but its own folder is read
            path = (file.parent / address).resolve()
            if not path.is_relative_to((file.parent / file.stem).resolve()):
                return None
            data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            picture = image.convert("RGB")
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            return picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
