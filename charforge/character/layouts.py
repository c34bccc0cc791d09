"""The two layouts of a character folder: our own, and the RoleScape release as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charforge.character.cards.card import Card
from charforge.character.cards.containers import read_card
from charforge.character.cards.convert import card_dialogues, card_profile
from charforge.character.cards.lorebook import Told, parse_lorebook, told_by
from charforge.character.cards.macros import resolved
from charforge.character.character import Dialogue, Lore
from charforge.character.check_images import check_images
from charforge.character.cleaning import cleaned, one_line
from charforge.character.contents import Contents
from charforge.character.json_text import parse_json
from charforge.character.listing import natural_key
from charforge.character.notes import Notes
from charforge.character.people import who_is_who
from charforge.character.picture_folder import find_pictures, read_pictures
from charforge.character.profile import (
    Profile,
    facts_and_rest,
    key_values,
    parse_character_md,
    plain,
    sentences,
)
from charforge.character.readers.documents import Document, document
from charforge.character.readers.messages import Conversations, from_records
from charforge.character.readers.table import format_of, read_conversations
from charforge.character.readers.templates import parts_of
from charforge.character.readers.text_logs import read_text_log
from charforge.character.speakers import Names
from charforge.character.text_files import outside, read_text, shown
from charforge.errors import InputError

PROFILE_SUFFIX = "_full_profile.txt"
_TEXTS = (".txt", ".md", ".log")


@dataclass
class Found:
    """What a layout reader found, before anything is checked against anything else."""

    profile: Profile
    pictures: dict[str, Path] = field(default_factory=dict)
    """File by the picture's name."""
    captions: dict[str, str] = field(default_factory=dict)
    dialogues: list[Dialogue] = field(default_factory=list)
    lore: list[Lore] = field(default_factory=list)
    card: dict[str, Any] | None = None
    said_in: str = "character.md"
    """The file that says who the character is: errors about it are told there."""


# our own layout


def read_own(folder: Path, contents: Contents, notes: Notes) -> Found:
    """character.md and/or a card, pictures, conversations, facts, lorebooks, in whatever files they lie.

    Where character.md and the card both say something, character.md is right; facts and dialogues are joined.
    """
    profile = Profile()
    if contents.character is not None:
        text = read_text(folder, contents.character, notes.problems)
        profile = _own_profile(text or "", shown(folder, contents.character), notes)
    found = Found(profile)
    card, card_file = _card(folder, contents, notes)
    names = who_is_who(folder, contents, profile, card)
    if card is not None:
        found.said_in = found.said_in if contents.character is not None else card_file
        found.card = _without_overridden(card.document, profile)
        described = card_profile(card, names, card_file, notes)
        _fill_from_card(profile, described.profile, card_file, notes)
        found.lore += described.lore
    if profile.breed:
        profile.facts.insert(0, f"Breed: {profile.breed}")
    for path in contents.facts:
        profile.facts += _facts(folder, path, names.name, notes)
    _add(_lorebooks(folder, contents, names, notes), found)
    images = read_pictures(folder, notes.problems)
    found.pictures, found.captions = images.pictures, images.captions
    notes.entries += images.entries
    told: list[tuple[str, str]] = []
    for path in (*contents.dialogues, *contents.logs):
        made = _conversations(folder, path, contents, names, notes)
        found.dialogues += check_images(made.dialogues, list(found.pictures), made.strict, notes)
        told += made.told
        if made.book is not None:
            _add(_book(made.book, shown(folder, path), names, notes), found)
    if card is not None:
        made_of_card = card_dialogues(card, names, card_file, notes)
        found.dialogues += check_images(made_of_card, list(found.pictures), False, notes)
    _add_told(told, profile, names, notes)
    profile.text = "\n".join([profile.text, *profile.facts])
    _pass_over(folder, contents, notes)
    return found


def _own_profile(text: str, file: str, notes: Notes) -> Profile:
    profile = parse_character_md(text, file, notes.problems)
    profile.name = one_line(profile.name)
    unknown: set[str] = set()
    if profile.about and profile.voice:
        profile.about = f"{profile.about} {profile.voice}"
    for key in ("persona", "voice", "appearance", "opening", "about"):
        setattr(profile, key, _plain(getattr(profile, key), profile.name, file, key, unknown, notes))
    profile.facts = [_plain(fact, profile.name, file, "facts", unknown, notes) for fact in profile.facts]
    if unknown:
        told = ", ".join(f"{{{{{word}}}}}" for word in sorted(unknown)[:5])
        notes.warn(file, f"has macros that are not known: {told}", "they were left out")
    for line, words in profile.unread:
        notes.pass_over(file, str(line), "sentence", words, "is not read there", "see the README for the sections")
    prose = (profile.persona, profile.voice, profile.appearance)
    notes.take(file, "sentence", sum(len(sentences(part)) for part in prose))
    notes.take(file, "fact", len(profile.facts))
    return profile


def _plain(text: str, name: str, file: str, place: str, unknown: set[str], notes: Notes) -> str:
    """Prose of the user's own without markup and macros, on one line."""
    clean = cleaned(text)
    if clean.removed:
        notes.change(file, place, "sentence", f"{', '.join(clean.removed)} removed")
    return " ".join(resolved(clean.text, name, "you", unknown).split())


def _card(folder: Path, contents: Contents, notes: Notes) -> tuple[Card | None, str]:
    """The folder's card and its file's name; what is wrong with it is told once."""
    if not contents.cards:
        return None, ""
    file = shown(folder, contents.cards[0])
    if len(contents.cards) > 1:
        listed = ", ".join(path.name for path in contents.cards)
        notes.refuse(contents.cards[1].name, f"is one card too many ({listed})", "keep one of them")
        return None, file
    refused = outside(folder, contents.cards[0])
    if refused is not None:
        notes.problems.append(refused)
        return None, file
    try:
        return read_card(contents.cards[0]), file
    except InputError as error:
        problem, _, remedy = str(error).removeprefix(f"{contents.cards[0].name} ").rpartition(": ")
        notes.refuse(file, problem, remedy)
        notes.pass_over(file, "", "file", contents.cards[0].name, problem, remedy)
        return None, file


def _fill_from_card(profile: Profile, card: Profile, file: str, notes: Notes) -> None:
    """The card's words where the profile has none, and its facts after the profile's."""
    for key in ("name", "class_noun", "author", "opening", "persona", "voice", "appearance"):
        if not getattr(profile, key):
            setattr(profile, key, getattr(card, key))
        elif getattr(card, key) and getattr(card, key) != getattr(profile, key) and key != "class_noun":
            notes.pass_over(file, key, "field", getattr(card, key), "character.md says it too, and is right")
    if profile.persona == card.persona:
        profile.about = card.about
    profile.text = "\n".join([profile.text, card.text])
    profile.facts += card.facts


def _without_overridden(document: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """The card's document without the fields for which character.md has words of its own: an export shows those."""
    gone = {"persona": ("description", "personality"), "voice": ("personality",), "opening": ("first_mes",)}
    hidden = {field for key, fields in gone.items() if getattr(profile, key) for field in fields}
    data = {key: value for key, value in document["data"].items() if key not in hidden}
    return {**document, "data": data}


def _facts(folder: Path, path: Path, name: str, notes: Notes) -> list[str]:
    text = read_text(folder, path, notes.problems)
    facts, rest = facts_and_rest(text or "")
    file = shown(folder, path)
    facts = [_plain(fact, name, file, "", set(), notes) for fact in facts]
    notes.take(file, "fact", len(facts))
    for line, words, reason in rest:
        notes.pass_over(file, str(line), "fact", words, reason)
    return facts


def _lorebooks(folder: Path, contents: Contents, names: Names, notes: Notes) -> Told:
    told = Told()
    for path in contents.lorebooks:
        file = shown(folder, path)
        text = contents.texts.get(path) or read_text(folder, path, notes.problems)
        if text is None:
            continue
        try:
            value = parse_json(text)
        except (ValueError, RecursionError):
            notes.refuse(file, "is not JSON", "export it again from the program it comes from")
            notes.pass_over(file, "", "file", path.name, "is not JSON")
            continue
        more = _book(value, file, names, notes)
        told.facts += more.facts
        told.lore += more.lore
    return told


def _book(value: Any, file: str, names: Names, notes: Notes) -> Told:
    try:
        entries = parse_lorebook(value, file)
    except InputError as error:
        problem, _, remedy = str(error).removeprefix(f"{file} ").rpartition(": ")
        notes.refuse(file, problem, remedy)
        notes.pass_over(file, "", "file", file, problem, remedy)
        return Told()
    return told_by(entries, names, file, notes)


def _add(told: Told, found: Found) -> None:
    found.profile.facts += told.facts
    found.lore += told.lore


def _conversations(folder: Path, path: Path, contents: Contents, names: Names, notes: Notes) -> Conversations:
    """One file of conversations, by what it holds."""
    text = contents.texts.get(path)
    text = text if text is not None else read_text(folder, path, notes.problems)
    file = shown(folder, path)
    if text is None:
        return Conversations()
    found = document(text, file) if path.suffix.lower() not in _TEXTS or text.lstrip()[:1] in ("{", "[") else None
    if path.suffix.lower() in _TEXTS and (parts := parts_of(text)):
        found = Document(file, list(parts))
    if found is None or (path.suffix.lower() in _TEXTS and format_of(found.values) is None):
        log = path in contents.logs
        dialogues = read_text_log(text, file, names, notes, log=log, lenient=log)
        return Conversations(tuple(dialogues), strict=not log)
    if not found.records and not found.torn:
        notes.warn(file, "is empty", "write dialogues into it, or remove it")
    return read_conversations(found, names, notes)


def _add_told(told: Iterable[tuple[str, str]], profile: Profile, names: Names, notes: Notes) -> None:
    """System texts of logs. They are the persona where nobody wrote one; else what names the character is a fact."""
    first = {text.strip(): place for place, text in reversed(list(told)) if text.strip()}
    for text, place in reversed(first.items()):
        file, _, where = place.rpartition(":")
        if not profile.persona and not re.match(r"(?:You are|Act as|Pretend|Write)\b", text):
            profile.persona = " ".join(text.split())
            notes.take(file, "sentence", len(sentences(profile.persona)))
            continue
        for sentence in sentences(" ".join(text.split())):
            if names.name and re.match(rf"{re.escape(names.name)}(?!\w)", sentence):
                profile.facts.append(sentence)
                notes.take(file, "sentence")
            else:
                remedy = "if it says who the character is, write it into character.md"
                reason = "a system text that does not begin with the character's name"
                notes.pass_over(file, where, "sentence", sentence, reason, remedy)


def _pass_over(folder: Path, contents: Contents, notes: Notes) -> None:
    for path, reason, remedy in contents.unread:
        notes.warn(shown(folder, path), reason, remedy)
        notes.pass_over(shown(folder, path), "", "file", path.name, reason, remedy)


# RoleScape


def rolescape_folder(folder: Path) -> Path | None:
    """The folder that holds annotation.json: ``folder`` itself or its ``train``."""
    for candidate in (folder, folder / "train"):
        if (candidate / "annotation.json").is_file():
            return candidate
    return None


def corrections_in(folder: Path, character: Path, notes: Notes) -> Profile | None:
    """What a character.md beside annotation.json corrects: its front matter, where it has no more than that."""
    profile = parse_character_md(read_text(folder, character, notes.problems) or "", character.name, notes.problems)
    return None if profile.persona or profile.voice or profile.appearance or profile.facts else profile


def read_rolescape(folder: Path, notes: Notes, corrections: Profile | None = None) -> Found:
    """annotation.json (the human-written seeds), profile, numbered pictures, identity captions.

    What ``corrections`` says of name and class is right.
    """
    profile = Profile()
    found = Found(profile)
    profiles = sorted(path for path in folder.glob(f"*{PROFILE_SUFFIX}") if not path.name.startswith("."))
    about = ""
    if profiles:
        profile.name = profiles[0].name.removesuffix(PROFILE_SUFFIX).replace("_", " ").strip()
        about = read_text(folder, profiles[0], notes.problems) or ""
    else:
        fallback = folder.parent if folder.name in ("train", "test") else folder
        profile.name = fallback.name.split("-")[-1]
    pictures = find_pictures(folder, folder, notes.problems)
    found.pictures = {name: path for name, path in pictures.items() if name.isdigit()}
    for name, path in pictures.items():
        if name not in found.pictures:
            notes.pass_over(shown(folder, path), "", "picture", path.name, "pictures of this layout are numbered")
    for path in sorted(folder.glob("*_t2i_instruction.json"), key=lambda path: natural_key(path.name))[:1]:
        record = _json_object(folder, path, notes)
        for item in record.get("t2i_instructions", []):
            if isinstance(item, dict) and isinstance(item.get("t2i_instruction"), str):
                found.captions[str(item.get("image_id"))] = _string(item, "t2i_instruction")
        notes.take(shown(folder, path), "caption", len(found.captions))
    annotation = _json_object(folder, folder / "annotation.json", notes)
    profile.persona = _string(annotation, "description")
    profile.opening = _string(annotation, "opening")
    scenes = annotation.get("scenes")
    if not isinstance(scenes, list):
        notes.refuse("annotation.json", 'has no list "scenes"', "use the file as released")
        scenes = []
    names = Names.of(profile.name)
    dialogues = []
    for number, scene in enumerate(scenes, start=1):
        origin = f"annotation.json:scene {number}"
        if not isinstance(scene, list):
            notes.refuse(origin, "is not a list of turns", "use the file as released")
            continue
        dialogue, _ = from_records(scene, origin, names, notes, strict=True)
        dialogues += [dialogue] if dialogue is not None else []
    found.dialogues = check_images(dialogues, list(found.pictures), False, notes)
    _fill_from_profile(profile, about, profiles[0].name if profiles else "", found, notes)
    if corrections is not None:
        profile.name = corrections.name or profile.name
        profile.class_noun = corrections.class_noun or profile.class_noun
    return found


def _fill_from_profile(profile: Profile, about: str, file: str, found: Found, notes: Notes) -> None:
    """Class noun, voice, appearance and facts from the key: value lines of a RoleScape profile."""
    pairs = key_values(about)

    def first(*keys: str) -> str:
        return next((value for key, value in pairs if key.lower() in keys), "")

    profile.name = profile.name or first("name")
    profile.voice = first("linguistic habits", "language habits", "speech style", "speaking style", "voice", "speech")
    profile.appearance = first("physical characteristics", "appearance", "physical description", "looks")
    profile.persona = profile.persona or first("personality", "description")
    profile.text = "\n".join([profile.persona, about])
    for key, value in pairs:
        if key.lower() in ("name", "character profile"):
            continue
        if (len(value.split()) <= 8 and not value.endswith(".")) or len(value.split()) <= 3:
            profile.facts.append(f"{key}: {value.rstrip('.')}")
            continue
        for sentence in sentences(value):
            # a fact stands alone: its subject is the name, not a pronoun
            fact = re.sub(r"^(He|She|It|They)\b", profile.name, sentence)
            fact = re.sub(r"^(His|Her|Its|Their)\b", f"{profile.name}'s", fact)
            if re.match(rf"^{re.escape(profile.name)}\b", fact) and len(fact.split()) <= 30:
                profile.facts.append(fact)
            elif value not in (profile.persona, profile.voice, profile.appearance):
                long = len(fact.split()) > 30
                reason = "is longer than 30 words" if long else "does not begin with the character's name"
                notes.pass_over(file, key, "sentence", sentence, reason)
    for line in about.split("\n"):
        if line.strip() and not key_values(line):
            _fill_from_prose(profile, line.strip(), file, notes)
    notes.take(file or "annotation.json", "fact", len(profile.facts))


def _fill_from_prose(profile: Profile, line: str, file: str, notes: Notes) -> None:
    """The sentences of a paragraph that are surely about the character: they begin with its name, or with a pronoun
    while nobody else has been the subject since.
    """
    known = False
    for sentence in sentences(plain(line)):
        fact = re.sub(r"^(?:He|She)\b", profile.name, sentence) if known else sentence
        fact = re.sub(r"^(?:His|Her)\b", f"{profile.name}'s", fact) if known else fact
        known = re.match(rf"{re.escape(profile.name)}(?!\w)", fact) is not None
        if not known or len(fact.split()) > 30 or not re.search(r"[.!?]$", fact):
            long = known and len(fact.split()) > 30
            reason = "is longer than 30 words" if long else "does not begin with the character's name"
            notes.pass_over(file, "", "sentence", sentence, reason)
        else:
            profile.facts.append(fact)


def _json_object(folder: Path, path: Path, notes: Notes) -> dict[str, Any]:
    text = read_text(folder, path, notes.problems)
    if text is None:
        return {}
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        where = f"{shown(folder, path)}:{getattr(error, 'lineno', 1)}"
        notes.refuse(where, "is not JSON", "use the file as released")
        return {}
    if not isinstance(value, dict):
        notes.refuse(shown(folder, path), "is not a JSON object", "use the file as released")
        return {}
    return value


def _string(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return " ".join(cleaned(value).text.split()) if isinstance(value, str) else ""
