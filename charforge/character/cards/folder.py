"""Finding the card and the lorebook of a character folder."""

from __future__ import annotations

import json
from pathlib import Path

from charforge.character.cards.card import Card, parse_lorebook
from charforge.character.cards.containers import png_carries_card, read_card
from charforge.character.cards.convert import entry_facts
from charforge.character.text_files import outside, read_text, shown
from charforge.errors import InputError, Problem

NAMED = ("card.png", "card.json")
LOREBOOK = "lorebook.json"


def card_files(folder: Path) -> list[Path]:
    """The files at the top of ``folder`` that are cards: by name, CHARX, or a PNG that carries one."""
    named = [folder / name for name in NAMED if (folder / name).exists() or (folder / name).is_symlink()]
    others = [path for path in sorted(folder.glob("*.charx")) if path not in named]
    # a pipe of that name would never end: only files are looked into
    found = [path for path in sorted(folder.glob("*.png")) if path not in named and path.is_file()]
    pictures = [path for path in found if png_carries_card(path)]
    return [*named, *others, *pictures]


def folder_card(folder: Path, problems: list[Problem]) -> Card | None:
    """The card of the folder, if it has one; what is wrong with it goes into ``problems``."""
    files = card_files(folder)
    if not files:
        return None
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        problems.append(Problem(files[1].name, "error", f"is one card too many ({names})", "keep one of them"))
        return None
    refused = outside(folder, files[0])
    if refused is not None:
        problems.append(refused)
        return None
    try:
        return read_card(files[0])
    except InputError as error:
        problem, _, remedy = str(error).removeprefix(f"{files[0].name} ").rpartition(": ")
        problems.append(Problem(shown(folder, files[0]), "error", problem, remedy))
        return None


def lorebook_facts(folder: Path, name: str, problems: list[Problem]) -> list[str]:
    """Facts of a stand-alone ``lorebook.json``; none where there is no such file."""
    file = folder / LOREBOOK
    if not (file.exists() or file.is_symlink()):
        return []
    text = read_text(folder, file, problems)
    if text is None:
        return []
    try:
        entries = parse_lorebook(json.loads(text), LOREBOOK)
    except (ValueError, RecursionError):
        problems.append(Problem(LOREBOOK, "error", "is not JSON", "export it again from the program it comes from"))
        return []
    except InputError as error:
        problem, _, remedy = str(error).removeprefix(f"{LOREBOOK} ").rpartition(": ")
        problems.append(Problem(LOREBOOK, "error", problem, remedy))
        return []
    unknown: set[str] = set()
    facts = entry_facts(entries, name, unknown)
    if unknown:
        told = ", ".join(sorted(unknown)[:5])
        problems.append(Problem(LOREBOOK, "warning", f"has macros that are not known: {told}", "they were left out"))
    return facts
