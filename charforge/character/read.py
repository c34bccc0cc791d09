"""Folder -> Character, the table of what is wrong with it, and the ledger of what was read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from charforge.character.character import Character, Dialogue, Picture
from charforge.character.contents import contents_of
from charforge.character.layouts import Found, corrections_in, read_own, read_rolescape, rolescape_folder
from charforge.character.ledger import Ledger
from charforge.character.name_parts import CHARACTER_ROLES, USER_ROLES, Parts
from charforge.character.notes import Notes, gathered
from charforge.character.pictures import check_pictures
from charforge.character.speakers import cast_of
from charforge.character.text_files import shown
from charforge.character.understanding import understood
from charforge.errors import InputError, Problem

FEWEST_PICTURES = 4
GOOD_NUMBER_OF_PICTURES = 10
LONGEST_NAME = 40
"""Letters of a name that still reads well at the beginning of every caption."""


@dataclass(frozen=True)
class Reading:
    """Everything that came out of one folder. ``character`` is None where nothing says who it is.

    ``problems`` stand errors first; where one of them is an error the character is not fit to be used.
    """

    character: Character | None
    problems: tuple[Problem, ...]
    ledger: Ledger

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that must be mended."""
        return tuple(problem for problem in self.problems if problem.level == "error")


def read_folder(folder: Path | str) -> Reading:
    """Read a character folder in our own layout or as RoleScape was released. Nothing is raised and nothing written."""
    notes = Notes()
    character = _read(Path(folder), notes)
    problems = gathered(notes.problems)
    ledger = character.ledger if character is not None else Ledger(tuple(notes.entries))
    return Reading(character, tuple(sorted(problems, key=lambda problem: problem.level != "error")), ledger)


def read_character(folder: Path | str) -> Character:
    """The character of a folder, see ``read_folder``.

    Raises InputError with the whole table of problems when any of them is an error.
    """
    return usable(read_folder(folder), folder)


def usable(reading: Reading, folder: Path | str) -> Character:
    """The character of a reading. Raises InputError with the whole table when something must be mended first."""
    if reading.character is None or reading.errors:
        count = f"{len(reading.errors)} problem{'s' if len(reading.errors) != 1 else ''}"
        raise InputError(f"{folder} has {count} to mend before it can be used.", list(reading.problems))
    return reading.character


def _read(folder: Path, notes: Notes) -> Character | None:
    if not folder.is_dir():
        if folder.exists():
            remedy = "put it into a folder with about 10 pictures in images/, and name that (see: charforge new)"
            notes.refuse(str(folder), "is a file and no folder", remedy)
        else:
            notes.refuse(str(folder), "does not exist", "name the folder of a character (see: charforge new)")
        return None
    if not os.access(folder, os.R_OK | os.X_OK):
        notes.refuse(str(folder), "cannot be read", "make the folder readable for you")
        return None
    folder = folder.resolve()
    own = Notes()
    contents = contents_of(folder, own)
    released = rolescape_folder(folder)
    beside = contents.character if released is not None and not contents.cards else None
    corrections = corrections_in(folder, beside, own) if beside is not None else None
    if released is not None and (corrections is not None or not (contents.character or contents.cards)):
        own = Notes()
        folder = released
        found = read_rolescape(folder, own, corrections)
    elif contents.character is not None or contents.cards:
        found = read_own(folder, contents, own)
    else:
        notes.refuse(
            str(folder),
            "has no character.md, no character card and no annotation.json",
            "write character.md (charforge new DIR makes a folder with an example of every file)",
        )
        for path, reason, remedy in contents.unread:
            notes.warn(path.name, reason, remedy)
            notes.pass_over(path.name, "", "file", path.name, reason, remedy)
        return None
    sent = {turn.image for dialogue in found.dialogues for turn in dialogue.turns}
    spare = [path for name, path in found.pictures.items() if path in contents.cards and name not in sent]
    about_pictures, entries = check_pictures(folder, found.pictures.values(), spare)
    own.problems += about_pictures
    own.entries += entries
    unused = {entry.file for entry in entries if not entry.taken}
    found.pictures = {name: path for name, path in found.pictures.items() if shown(folder, path) not in unused}
    own.take("images", "picture", len(found.pictures))
    _check_whole(found, found.dialogues, own)
    notes.problems += own.problems
    profile = found.profile
    facts = dict.fromkeys(profile.facts)
    if len(facts) < len(profile.facts):
        for fact in facts:
            for _ in range(profile.facts.count(fact) - 1):
                own.pass_over(found.said_in, "", "fact", fact, "is said in another file too")
    character = Character(
        name=profile.name,
        class_noun=profile.class_noun,
        about=profile.about,
        profile_text=profile.text,
        persona=profile.persona,
        voice=profile.voice,
        appearance=profile.appearance,
        facts=tuple(facts),
        opening=profile.opening,
        author=profile.author,
        license=profile.license,
        pictures=tuple(Picture(name, path, found.captions.get(name)) for name, path in found.pictures.items()),
        dialogues=tuple(found.dialogues),
        folder=folder,
        card=found.card,
        lore=tuple(dict.fromkeys(found.lore)),
        cast=cast_of(own.spoken),
        ledger=Ledger(tuple(own.entries)),
    )
    return understood(character, profile.breed)


def _check_whole(found: Found, dialogues: list[Dialogue], notes: Notes) -> None:
    """What only shows when the parts are seen together: counts, the name, missing pieces.

    One cause is one error: what follows from a file that could not be read is not told again.
    """
    count = len(found.pictures)
    broken = {problem.file.split(":")[0] for problem in notes.problems if problem.level == "error"}
    if count < FEWEST_PICTURES and not (count == 0 and "images" in broken):
        many = {0: "no pictures", 1: "1 picture"}.get(count, f"{count} pictures")
        remedy = f"add pictures: {GOOD_NUMBER_OF_PICTURES} is good, {FEWEST_PICTURES} the least"
        notes.refuse("images", f"has {many}", remedy)
    elif FEWEST_PICTURES <= count < GOOD_NUMBER_OF_PICTURES:
        notes.warn("images", f"has {count} pictures", f"{GOOD_NUMBER_OF_PICTURES} pictures teach more")
    bare = [path.name for name, path in found.pictures.items() if not found.captions.get(name)]
    if bare:
        notes.warn(
            "images",
            f"{len(bare)} of {count} pictures have no caption (the first: {bare[0]})",
            "write what varies in each picture into a .txt of the same name"
            + ("" if len(bare) < count else ", or have it written: --writer endpoint; until then no plans are taught"),
        )
    said = {entry.file.split(" ")[0] for entry in notes.entries if entry.kind == "turn"}
    if not dialogues and not (broken & {*said, found.said_in} or any("annotation" in f for f in broken)):
        notes.refuse("dialogues.jsonl", "there are no dialogues", "write some 30 of them: they teach the voice")
    _check_name(found, dialogues, broken, notes)


def _check_name(found: Found, dialogues: list[Dialogue], broken: set[str], notes: Notes) -> None:
    profile, file = found.profile, found.said_in
    if not profile.name:
        if file not in broken:
            remedy = "write name: ... into the front matter"
            beside = "write a character.md with name: ... in its front matter"
            notes.refuse(file, "has no name", remedy if found.said_in == "character.md" else beside)
        return
    rename = "write a name into the front matter of character.md (name: ...)"
    if profile.name.casefold() in USER_ROLES | CHARACTER_ROLES or not any(letter.isalnum() for letter in profile.name):
        notes.refuse(file, f"has the name {profile.name!r}, which names a role and nobody", rename)
    elif len(profile.name) > LONGEST_NAME or any(mark in profile.name for mark in "|*[]{}<>"):
        notes.warn(file, f"has the name {profile.name!r}, which begins every caption and prompt", rename)
    elif profile.name.casefold().split()[-1] in USER_ROLES:
        notes.warn(file, f"has the name {profile.name!r}, which reads like a word for the user", rename)
    if not profile.persona:
        notes.warn("character.md", "has no persona", "write a few sentences under a heading Persona")
    texts = [
        profile.persona,
        profile.voice,
        profile.appearance,
        profile.opening,
        *profile.facts,
        *found.captions.values(),
    ]
    texts += [turn.text for dialogue in dialogues for turn in dialogue.turns]
    told = any(problem.file == file and repr(profile.name) in problem.problem for problem in notes.problems)
    said = " ".join(texts).casefold()
    called = (profile.name, *Parts.of(profile.name).short)
    if not told and not any(re.search(rf"(?<!\w){re.escape(form.casefold())}", said) for form in called):
        notes.warn(
            file,
            f"the name {profile.name!r} never occurs in dialogues, captions or prose",
            "is it spelt as it is there? use it in a few lines",
        )
