"""The two layouts of a character folder: our own, and the RoleScape release as it is."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charforge.character.cards.convert import card_dialogues, card_profile
from charforge.character.cards.folder import folder_card, lorebook_facts
from charforge.character.character import Dialogue
from charforge.character.dialogues import dialogue_from_records, parse_text
from charforge.character.json_lines import parse_jsonl
from charforge.character.ledger import Entry
from charforge.character.listing import natural_key
from charforge.character.picture_folder import find_pictures, read_pictures
from charforge.character.profile import (
    Profile,
    guess_class_noun,
    key_values,
    parse_character_md,
    parse_facts,
    sentences,
)
from charforge.character.text_files import read_text, shown
from charforge.errors import Problem

PROFILE_SUFFIX = "_full_profile.txt"


@dataclass
class Found:
    """What a layout reader found, before anything is checked against anything else."""

    profile: Profile
    pictures: dict[str, Path] = field(default_factory=dict)
    """File by the picture's name."""
    captions: dict[str, str] = field(default_factory=dict)
    dialogues: list[Dialogue] = field(default_factory=list)
    strict_images: bool = True
    """Whether a dialogue that names a missing picture is an error."""
    card: dict[str, Any] | None = None
    entries: list[Entry] = field(default_factory=list)


def read_own(folder: Path, problems: list[Problem]) -> Found:
    """character.md and/or a card, images/, dialogues.jsonl / .md / .txt, chats/*.jsonl, facts.md, lorebook.json.

    Where character.md and the card both say something, character.md is right; facts and dialogues are joined.
    """
    profile = Profile()
    if _exists(folder / "character.md"):
        profile = parse_character_md(
            read_text(folder, folder / "character.md", problems) or "", "character.md", problems
        )
    found = Found(profile)
    card = folder_card(folder, problems)
    if card is not None:
        found.card = _without_overridden(card.document, profile)
        _fill_from_card(profile, card_profile(card, "card", problems))
    if profile.breed:
        profile.facts.insert(0, f"Breed: {profile.breed}")
    facts = folder / "facts.md"
    if _exists(facts):
        profile.facts += parse_facts(read_text(folder, facts, problems) or "")
    profile.facts += lorebook_facts(folder, profile.name, problems)
    images = read_pictures(folder, problems)
    found.pictures, found.captions, found.entries = images.pictures, images.captions, images.entries
    chats = [f"chats/{path.name}" for path in sorted((folder / "chats").glob("*.jsonl"))]
    for file in ("dialogues.jsonl", "dialogues.md", "dialogues.txt", *chats):
        if _exists(folder / file):
            text = read_text(folder, folder / file, problems)
            parse = parse_jsonl if file.endswith(".jsonl") else parse_text
            if text is not None:
                found.dialogues += parse(text, file, profile.name, problems)
    if card is not None:
        found.dialogues += card_dialogues(card, "card", problems)
    about = " ".join([profile.persona, profile.appearance, *profile.facts, *found.captions.values()])
    profile.class_noun = profile.class_noun or guess_class_noun(profile.breed, about)
    return found


def _fill_from_card(profile: Profile, card: Profile) -> None:
    """The card's words where the profile has none, and its facts after the profile's."""
    for key in ("name", "class_noun", "author", "opening", "persona", "voice", "appearance"):
        if not getattr(profile, key):
            setattr(profile, key, getattr(card, key))
    profile.facts += card.facts


def _without_overridden(document: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """The card's document without the fields for which character.md has words of its own: an export shows those."""
    gone = {"persona": ("description", "personality"), "voice": ("personality",), "opening": ("first_mes",)}
    hidden = {field for key, fields in gone.items() if getattr(profile, key) for field in fields}
    data = {key: value for key, value in document["data"].items() if key not in hidden}
    return {**document, "data": data}


def _exists(path: Path) -> bool:
    """True for links that lead nowhere too: those must be told, not skipped."""
    return path.exists() or path.is_symlink()


def rolescape_folder(folder: Path) -> Path | None:
    """The folder that holds annotation.json: ``folder`` itself or its ``train``."""
    for candidate in (folder, folder / "train"):
        if (candidate / "annotation.json").is_file():
            return candidate
    return None


def read_rolescape(folder: Path, problems: list[Problem]) -> Found:
    """annotation.json (the human-written seeds), profile, numbered pictures, identity captions."""
    profile = Profile()
    found = Found(profile, strict_images=False)
    profiles = sorted(folder.glob(f"*{PROFILE_SUFFIX}"))
    about = ""
    if profiles:
        profile.name = profiles[0].name.removesuffix(PROFILE_SUFFIX).replace("_", " ").strip()
        about = read_text(folder, profiles[0], problems) or ""
    else:
        fallback = folder.parent if folder.name in ("train", "test") else folder
        profile.name = fallback.name.split("-")[-1]
    found.pictures = {name: path for name, path in find_pictures(folder, folder, problems).items() if name.isdigit()}
    for path in sorted(folder.glob("*_t2i_instruction.json"), key=lambda path: natural_key(path.name))[:1]:
        record = _json_object(folder, path, problems)
        for item in record.get("t2i_instructions", []):
            if isinstance(item, dict) and isinstance(item.get("t2i_instruction"), str):
                found.captions[str(item.get("image_id"))] = " ".join(item["t2i_instruction"].split())
    annotation = _json_object(folder, folder / "annotation.json", problems)
    profile.persona = _string(annotation, "description")
    profile.opening = _string(annotation, "opening")
    scenes = annotation.get("scenes")
    if not isinstance(scenes, list):
        problems.append(Problem("annotation.json", "error", 'has no list "scenes"', "use the file as released"))
        scenes = []
    for number, scene in enumerate(scenes, start=1):
        origin = f"annotation.json:scene {number}"
        if not isinstance(scene, list):
            problems.append(Problem(origin, "error", "is not a list of turns", "use the file as released"))
            continue
        dialogue = dialogue_from_records(scene, origin, profile.name, problems)
        if dialogue is not None:
            found.dialogues.append(dialogue)
    _fill_from_profile(profile, about, [*found.captions.values(), *(t.text for d in found.dialogues for t in d.turns)])
    return found


def _fill_from_profile(profile: Profile, about: str, other_texts: list[str]) -> None:
    """Class noun, voice, appearance and facts from the key: value lines of a RoleScape profile."""
    pairs = key_values(about)

    def first(*keys: str) -> str:
        return next((value for key, value in pairs if key.lower() in keys), "")

    profile.name = profile.name or first("name")
    profile.voice = first("linguistic habits", "language habits", "speech style", "speaking style", "voice", "speech")
    profile.appearance = first("physical characteristics", "appearance", "physical description", "looks")
    profile.persona = profile.persona or first("personality", "description")
    breed = first("breed", "species", "race")
    profile.class_noun = guess_class_noun(breed, " ".join([profile.persona, about, *other_texts]))
    for key, value in pairs:
        if key.lower() in ("name", "character profile"):
            continue
        if len(value.split()) <= 8 and not value.endswith("."):
            profile.facts.append(f"{key}: {value}")
            continue
        for sentence in sentences(value):
            # a fact stands alone: its subject is the name, not a pronoun
            fact = re.sub(r"^(He|She|It|They)\b", profile.name, sentence)
            fact = re.sub(r"^(His|Her|Its|Their)\b", f"{profile.name}'s", fact)
            if re.match(rf"^{re.escape(profile.name)}\b", fact) and len(fact.split()) <= 30:
                profile.facts.append(fact)


def _json_object(folder: Path, path: Path, problems: list[Problem]) -> dict[str, Any]:
    text = read_text(folder, path, problems)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"{shown(folder, path)}:{getattr(error, 'lineno', 1)}"
        problems.append(Problem(where, "error", "is not JSON", "use the file as released"))
        return {}
    if not isinstance(value, dict):
        problems.append(Problem(shown(folder, path), "error", "is not a JSON object", "use the file as released"))
        return {}
    return value


def _string(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return " ".join(value.split()) if isinstance(value, str) else ""
