"""What lies in a character folder: which file is read as what, and which are not read.

Names are compared without regard to case; JSON files are known by their keys and not by their names. Files of the
operating system are never listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from charforge.character.cards.card import looks_like_card
from charforge.character.cards.containers import carries_card
from charforge.character.cards.lorebook import is_lorebook
from charforge.character.json_text import parse_json
from charforge.character.listing import files_in, is_system_name, natural_key
from charforge.character.notes import Notes
from charforge.character.picture_folder import PLACES
from charforge.character.picture_kinds import SUFFIXES
from charforge.character.readers.documents import document
from charforge.character.readers.table import format_of
from charforge.character.results import is_result
from charforge.character.text_files import read_text, shown

CHATS = ("chats", "chat", "logs")
"""Folders whose files, and those of folders inside them, are logs."""
LOG_SUFFIXES = (".jsonl", ".json", ".txt", ".md", ".log")
CARD_SUFFIXES = (".charx", ".zip", ".png", ".apng", ".webp", ".jpg", ".jpeg")
DIALOGUES = ("dialogues.jsonl", "dialogues.json", "dialogues.md", "dialogues.txt")
FACTS = ("facts.md", "facts.txt")
_NO_CONTENT = re.compile(r"^(?:license|licence|copying|notice|read[-_ ]?me|changelog|charforge\.toml)\b", re.I)
_REPEATS = re.compile(r"^\d+_\S")
_SPEAKS = re.compile(r"^[^\S\n]*[*_\[\"]{0,3}([^:：\n]{1,60}?)[*_\]\"]{0,3}[^\S\n]*[:：]", re.M)


@dataclass
class Contents:
    """Paths by what they are read as; ``texts`` holds what was already read on the way."""

    character: Path | None = None
    facts: list[Path] = field(default_factory=list)
    cards: list[Path] = field(default_factory=list)
    lorebooks: list[Path] = field(default_factory=list)
    dialogues: list[Path] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    texts: dict[Path, str] = field(default_factory=dict)
    unread: list[tuple[Path, str, str]] = field(default_factory=list)
    """(path, why it is not read, what to do)."""


def contents_of(folder: Path, notes: Notes) -> Contents:
    """Sort the files of a folder in our own layout. What cannot be read at all becomes a problem in ``notes``."""
    found = Contents()
    listed = sorted((p for p in folder.iterdir() if not is_system_name(p.name)), key=lambda p: natural_key(p.name))
    by_name: dict[str, list[Path]] = {}
    for path in listed:
        by_name.setdefault(path.name.lower(), []).append(path)
    found.character = next(iter(by_name.get("character.md", ())), None)
    found.facts = [path for name in FACTS for path in by_name.get(name, ())]
    found.dialogues = [path for name in DIALOGUES for path in by_name.get(name, ())]
    known = {found.character, *found.facts, *found.dialogues}
    for path in listed:
        if path in known or _NO_CONTENT.match(path.name) or is_result(path):
            continue
        if path.is_dir():
            _look_into(folder, path, found, notes)
        else:
            _sort_file(folder, path, found, notes)
    for name in ("card.json", "card.png"):
        # what is called a card is one, and first
        for path in by_name.get(name, ()):
            found.cards = [path, *(other for other in found.cards if other != path)]
    if found.character is None and not found.cards:
        found.cards = _among_pictures(folder)
    return found


def _look_into(folder: Path, path: Path, found: Contents, notes: Notes) -> None:
    name = path.name.lower()
    if name in PLACES or _REPEATS.match(path.name):
        return
    if name not in CHATS:
        files = [file.relative_to(path).as_posix() for file in files_in(path, nested=True)]
        if files:
            what, remedy = "is a folder that is not read", "conversations go into chats/, pictures into images/"
            notes.warn(path.name, what, remedy)
            notes.pass_over(path.name, "", "file", ", ".join(files), what, remedy)
        return
    if not path.resolve().is_relative_to(folder.resolve()):
        notes.refuse(shown(folder, path), "is a link that leads outside the character folder", "copy the logs in")
        return
    for file in files_in(path, nested=True):
        if file.suffix.lower() in LOG_SUFFIXES:
            found.logs.append(file)
        else:
            found.unread.append((file, "is no log that is read", "export the chat as JSON Lines or as text"))


def _sort_file(folder: Path, path: Path, found: Contents, notes: Notes) -> None:
    suffix, name = path.suffix.lower(), path.name.lower()
    if name in ("card.png", "card.json") or suffix == ".charx":
        found.cards.append(path)
    elif name == "metadata.jsonl" or name == "metadata.csv":
        return
    elif suffix in CARD_SUFFIXES and path.is_file() and carries_card(path):
        found.cards.append(path)
    elif suffix in SUFFIXES:
        # a picture that is no card: what becomes of it is told with the pictures
        return
    elif suffix == ".jsonl":
        _sort_json_lines(folder, path, found, notes)
    elif suffix in (".json", ".lorebook"):
        _sort_json(folder, path, found, notes)
    elif suffix in (".txt", ".md", ".log"):
        _sort_text(folder, path, found, notes)
    elif suffix == ".risum":
        remedy = "export the module's lorebook from RisuAI as JSON"
        found.unread.append((path, "is a module of RisuAI, packed so that only RisuAI reads it", remedy))
    else:
        remedy = "see the README for the files that are read"
        found.unread.append((path, f"is not read ({suffix or 'no extension'})", remedy))


def _sort_json_lines(folder: Path, path: Path, found: Contents, notes: Notes) -> None:
    text = read_text(folder, path, notes.problems)
    if text is None:
        return
    found.texts[path] = text
    lines = document(text, path.name)
    if format_of(lines.values) is not None:
        found.dialogues.append(path)
    elif any(isinstance(value, dict) and {"task", "parts"} <= set(value) for value in lines.values):
        found.unread.append((path, "holds pairs that charforge wrote", "train on them with --pairs, or move them"))
    else:
        remedy = 'write {"turns": [{"role": "user", "text": "..."}, ...]}, one dialogue a line'
        found.unread.append((path, "is JSON Lines of a kind that is not read", remedy))


def _sort_json(folder: Path, path: Path, found: Contents, notes: Notes) -> None:
    """A JSON file by its keys. One that is called lorebook.json is told as a broken lorebook when it is none."""
    if path.name.lower() == "lorebook.json":
        found.lorebooks.append(path)
        return
    text = read_text(folder, path, notes.problems)
    if text is None:
        return
    found.texts[path] = text
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        if format_of(document(text, path.name).values) is not None:
            # JSON Lines under another name
            found.dialogues.append(path)
        else:
            found.unread.append((path, "is not JSON", "export it again, or remove it"))
        return
    if looks_like_card(value):
        found.cards.append(path)
    elif format_of(document(text, path.name).values) is not None:
        found.dialogues.append(path)
    elif is_lorebook(value):
        found.lorebooks.append(path)
    else:
        keys = ", ".join(list(value)[:5]) if isinstance(value, dict) else type(value).__name__
        remedy = "it is no card, lorebook or chat that is known; export it in another format"
        found.unread.append((path, f"is JSON of a kind that is not read ({keys or 'empty'})", remedy))


def _sort_text(folder: Path, path: Path, found: Contents, notes: Notes) -> None:
    """A text at the top is a log where at least two names come back at the beginning of lines."""
    beside = [path.with_suffix(suffix) for suffix in SUFFIXES] + [path.with_name(path.stem)]
    if any(other.is_file() and other.suffix.lower() in SUFFIXES for other in beside):
        # the caption of a picture
        return
    text = read_text(folder, path, notes.problems)
    if text is None:
        return
    found.texts[path] = text
    said = [name.strip().casefold() for name in _SPEAKS.findall(text)]
    if sum(1 for name in set(said) if said.count(name) >= 2) >= 2:
        found.logs.append(path)
    else:
        remedy = "call it dialogues.txt (User: ... / NAME: ...), facts.md or character.md"
        found.unread.append((path, "is a text that is not read", remedy))


def _among_pictures(folder: Path) -> list[Path]:
    """The first picture of the folder's pictures that carries a card."""
    for path in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if path.is_dir() and path.name.lower() in PLACES and not path.is_symlink():
            for picture in files_in(path, nested=False):
                if picture.suffix.lower() in (".png", ".apng") and picture.is_file() and carries_card(picture):
                    return [picture]
    return []
