"""What decides the result of a run, and how two jobs differ in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from charforge.character import Character
from charforge.files import sha256_file
from charforge.settings import Settings, deciding

OF_THE_SECOND_STAGE = ("grpo.", "reward.")
NOT_THE_PROFILE = ("folder", "pictures", "dialogues", "room", "profile_text", "understanding")
TOLD = 6
"""Differences that a message names; of more it tells the number."""


def inputs_of(character: Character, pairs_file: Path | None = None) -> dict[str, str]:
    """A hash of each thing that was given beside the settings, by a name that a person understands."""
    profile = {key: value for key, value in asdict(character).items() if key not in NOT_THE_PROFILE}
    dialogues = [[asdict(turn) for turn in dialogue.turns] for dialogue in character.dialogues]
    given = {"the character's profile": _hash(profile), "the dialogues": _hash(dialogues)}
    given |= {f"picture {p.name}": _hash([sha256_file(p.path), p.caption]) for p in character.pictures}
    if pairs_file is not None:
        given["the file of pairs"] = sha256_file(pairs_file)
    return given


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def setting_differences(known: Settings, now: Settings, second_stage_begun: bool) -> list[str]:
    """The settings that decide the result and differ, each with its old and new value.

    Those of the second stage decide nothing before it has begun.
    """
    old, new = deciding(known), deciding(now)
    names = [name for name in new if old[name] != new[name]]
    if not second_stage_begun:
        names = [name for name in names if not name.startswith(OF_THE_SECOND_STAGE)]
    return [f"{name} is {_shown(old[name])} there and {_shown(new[name])} now" for name in names]


def input_differences(known: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What was given and differs: added, gone, or changed."""
    lines = [f"{name} is new" for name in now if name not in known]
    lines += [f"{name} is gone" for name in known if name not in now]
    return lines + [f"{name} has changed" for name in now if name in known and known[name] != now[name]]


def in_words(differences: list[str]) -> str:
    """The first differences, and how many more there are."""
    more = len(differences) - TOLD
    return "; ".join(differences[:TOLD]) + (f"; and {more} more" if more > 0 else "")


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
