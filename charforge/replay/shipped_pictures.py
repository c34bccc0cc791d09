"""The pictures that ``mini`` ships of others: replayed in training, and shown as "not the character"."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from charforge.bases.where import MINI

PREFIX = "base:"
"""How a pair names one of them: ``base:17``."""

_FILE = MINI / "replay.safetensors"


def own_pictures_file(base: str) -> Path | None:
    """The file of captioned latents that comes with ``base``; None for a base that ships none."""
    return _FILE if base == "mini" else None


def own_captions(base: str) -> dict[str, str]:
    """Caption by name of the base's own pictures; empty for a base that ships none. Loads no tensors."""
    file = own_pictures_file(base)
    if file is None:
        return {}
    with safe_open(file, framework="np") as opened:
        captions = json.loads(opened.metadata()["captions"])
    return {f"{PREFIX}{number}": caption for number, caption in enumerate(captions)}
