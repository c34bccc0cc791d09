"""``pairs.html``: every pair beside its pictures, kept and dropped, in one self-contained page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from charforge.character import Character, load_picture
from charforge.expand.expansion import Expansion, summary
from charforge.expand.pairs import Pair, TextPart
from charforge.files import write_atomic

THUMBNAIL = 160
"""Pixels of the longer side."""

_TEMPLATE = (Path(__file__).parent / "page.html").read_text("utf-8")


def write_page(path: Path, character: Character, expansion: Expansion) -> None:
    """Write the page. Every text is escaped: pairs are the user's words, not markup."""
    rows = [_row(pair, "") for pair in expansion.pairs]
    rows += [_row(item.pair, item.reason) for item in expansion.dropped]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_TEMPLATE)
    html = page.render(
        name=character.name,
        rows=rows,
        figures=summary(expansion, character.name),
        filters={
            "task": _values(row["task"] for row in rows),
            "writer": _values(row["writer"] for row in rows),
            "state": _values(row["state"] for row in rows),
        },
        pictures={picture.name: _thumbnail(picture.path) for picture in character.pictures},
    )
    write_atomic(path, html)


def _row(pair: Pair, reason: str) -> dict[str, Any]:
    parts = [
        {"text": part.text, "role": part.role or "prompt", "loss": part.loss}
        if isinstance(part, TextPart)
        else {"image": part.image, "use": part.use, "loss": part.loss}
        for part in pair.parts
        # the system prompt is the same everywhere: it would bury the rest
        if not (isinstance(part, TextPart) and part.role == "system")
    ]
    state = f"dropped: {reason}" if reason else pair.split.replace("_", " ")
    return {"parts": parts, "state": state, **pair.model_dump(include={"id", "task", "writer", "origin", "source"})}


def _values(values: Sequence[str] | Any) -> list[str]:
    return list(dict.fromkeys(values))


def _thumbnail(path: Path) -> str:
    image = load_picture(path).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
