"""Folder -> Character, and the table of what is wrong with it."""

from __future__ import annotations

from pathlib import Path

from charforge.character.cards.folder import card_files
from charforge.character.character import Character, Dialogue, Picture
from charforge.character.dialogues import check_images
from charforge.character.layouts import Found, read_own, read_rolescape, rolescape_folder
from charforge.character.pictures import check_pictures
from charforge.errors import InputError, Problem

FEWEST_PICTURES = 4
GOOD_NUMBER_OF_PICTURES = 10


def read_character(folder: Path | str) -> Character:
    """Read a character folder in our own layout or as RoleScape was released.

    Raises InputError with the whole table of problems when any of them is an error. Nothing is written.
    """
    character, problems = _read(Path(folder))
    errors = [problem for problem in problems if problem.level == "error"]
    if character is None or errors:
        count = f"{len(errors)} problem{'s' if len(errors) != 1 else ''}"
        raise InputError(f"{folder} has {count} to mend before it can be used.", problems)
    return character


def check_character(folder: Path | str) -> list[Problem]:
    """Everything wrong with a folder, errors first; empty when there is nothing to say."""
    return sorted(_read(Path(folder))[1], key=lambda problem: problem.level != "error")


def _read(folder: Path) -> tuple[Character | None, list[Problem]]:
    problems: list[Problem] = []
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return None, [Problem(str(folder), "error", what, "name the folder of a character (see: charforge new)")]
    folder = folder.resolve()
    own = folder / "character.md"
    released = rolescape_folder(folder)
    if own.exists() or own.is_symlink() or card_files(folder):
        found = read_own(folder, problems)
    elif released is not None:
        folder = released
        found = read_rolescape(folder, problems)
    else:
        return None, [
            Problem(
                str(folder),
                "error",
                "has no character.md, no character card and no annotation.json",
                "write character.md (charforge new DIR makes a folder with an example of every file)",
            )
        ]
    about_pictures, changes = check_pictures(folder, found.pictures.values())
    problems.extend(about_pictures)
    found.entries += changes
    names = list(found.pictures)
    dialogues = check_images(found.dialogues, names, found.strict_images, problems)
    _check_whole(found, dialogues, problems)
    profile = found.profile
    character = Character(
        name=profile.name,
        class_noun=profile.class_noun,
        persona=profile.persona,
        voice=profile.voice,
        appearance=profile.appearance,
        facts=tuple(dict.fromkeys(profile.facts)),
        opening=profile.opening,
        author=profile.author,
        license=profile.license,
        pictures=tuple(Picture(name, path, found.captions.get(name)) for name, path in found.pictures.items()),
        dialogues=tuple(dialogues),
        folder=folder,
        card=found.card,
    )
    return character, problems


def _check_whole(found: Found, dialogues: list[Dialogue], problems: list[Problem]) -> None:
    """What only shows when the parts are seen together: counts, the name, missing pieces."""
    profile, count = found.profile, len(found.pictures)

    def add(file: str, level: str, problem: str, remedy: str) -> None:
        problems.append(Problem(file, "error" if level == "error" else "warning", problem, remedy))

    if count < FEWEST_PICTURES:
        many = {0: "no pictures", 1: "1 picture"}.get(count, f"{count} pictures")
        add(
            "images",
            "error",
            f"has {many}",
            f"add pictures: {GOOD_NUMBER_OF_PICTURES} is good, {FEWEST_PICTURES} the least",
        )
    elif count < GOOD_NUMBER_OF_PICTURES:
        add("images", "warning", f"has {count} pictures", f"{GOOD_NUMBER_OF_PICTURES} pictures teach more")
    bare = [path.name for name, path in found.pictures.items() if not found.captions.get(name)]
    if bare:
        add(
            "images",
            "warning",
            f"{len(bare)} of {count} pictures have no caption (the first: {bare[0]})",
            "write what varies in each picture into a .txt of the same name",
        )
    if not dialogues and not any(
        "dialogue" in p.file or "annotation" in p.file for p in problems if p.level == "error"
    ):
        add(
            "dialogues.jsonl",
            "error",
            "there are no dialogues",
            "write some 30 of them: they teach the voice",
        )
    if not profile.name:
        add("character.md", "error", "has no name", "write name: ... into the front matter")
        return
    if not profile.persona:
        add("character.md", "warning", "has no persona", "write a few sentences under a heading Persona")
    texts = [
        profile.persona,
        profile.voice,
        profile.appearance,
        profile.opening,
        *profile.facts,
        *found.captions.values(),
    ]
    texts += [turn.text for dialogue in dialogues for turn in dialogue.turns]
    if profile.name.casefold() not in " ".join(texts).casefold():
        add(
            "character.md",
            "warning",
            f"the name {profile.name!r} never occurs in dialogues, captions or prose",
            "is it spelt as it is there? use it in a few lines",
        )
