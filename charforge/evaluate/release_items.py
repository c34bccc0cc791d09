"""The items of a release without those that training has seen, and with another name in place of the character's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from charforge.character import Character
from charforge.evaluate.questions import Choice
from charforge.evaluate.rolescape import Line, Looked, Release
from charforge.expand.pairs import Pair, PromptKeys, prompt_key

NAMES = ("Tovan", "Merrik", "Selda", "Brinno", "Oskelan")
"""Invented, and nobody famous: the first that the character's texts do not contain takes its name's place."""


def without_leaks(release: Release, pairs: Sequence[Pair] | None) -> tuple[Release, dict[str, int]]:
    """The release without the items that training asks too, in these or nearly these words, and how many of each kind
    they were.

    Training is the run's own pairs; without them (a bundle) it is taken to be all training files of the release.
    """
    if pairs is None:
        talk, looks = [*release.known_lines, *release.known_questions], release.known_questions
    else:
        trained = [pair for pair in pairs if pair.split == "train"]
        talk = [text for pair in trained if pair.task != "vqa" for text in pair.texts("user")]
        looks = [f"{image}: {text}" for pair in trained for image in pair.images("look") for text in pair.texts("user")]
    talked, looked = _Known(talk, release.name), _Known(looks, release.name)
    kept = replace(
        release,
        dialogues=[line for line in release.dialogues if not talked.knows(line.user)],
        knowledge=[choice for choice in release.knowledge if not talked.knows(choice.question)],
        looks=[look for look in release.looks if not looked.knows(f"{look.image}: {look.choice.question}")],
        memorization=[text for text in release.memorization if not talked.knows(text)],
        personality=[text for text in release.personality if not talked.knows(text)],
        scenes=[line for line in release.scenes if not talked.knows(line.user)],
    )
    before, after = release.parsed(), kept.parsed()
    return kept, {kind: before[kind] - after[kind] for kind in before}


EVERY = 4


def shortened(release: Release, judged: bool = False) -> Release:
    """Every fourth of the questions about pictures, and where nobody judges nothing that only a judge could mark: for a
    look."""
    fewer = replace(release, looks=release.looks[::EVERY])
    return fewer if judged else replace(fewer, memorization=[], personality=[])


class _Known:
    """Texts that training asks; those about a picture begin with its number."""

    def __init__(self, texts: Sequence[str], name: str) -> None:
        self._name = name
        self._by_picture: dict[str, PromptKeys] = {}
        keys: dict[str, list[str]] = {}
        for text in texts:
            picture, question = _split(text)
            keys.setdefault(picture, []).append(prompt_key(question, name))
        self._by_picture = {picture: PromptKeys(asked) for picture, asked in keys.items()}

    def knows(self, text: str) -> bool:
        picture, question = _split(text)
        known = self._by_picture.get(picture)
        return known is not None and bool(known.like(prompt_key(question, self._name)))


def _split(text: str) -> tuple[str, str]:
    found = re.match(r"(\d+): (.*)", text, re.DOTALL)
    return (found[1], found[2]) if found else ("", text)


def invented_name(release: Release) -> str:
    """A name that none of the release's texts contains."""
    told = " ".join([*(line.reply for line in release.dialogues), *release.captions.values()]).lower()
    return next((name for name in NAMES if name.lower() not in told), NAMES[0])


def renamed_release(release: Release) -> Release:
    """Every text of the release with an invented name in place of the character's."""
    to = _renaming(release)

    def line(one: Line) -> Line:
        return Line(to(one.user), to(one.reply), one.image)

    def choice(one: Choice) -> Choice:
        return Choice(to(one.question), tuple(map(to, one.options)), one.right)

    return replace(
        release,
        profile=to(release.profile),
        captions={image: to(text) for image, text in release.captions.items()},
        scenes=[line(one) for one in release.scenes],
        dialogues=[line(one) for one in release.dialogues],
        knowledge=[choice(one) for one in release.knowledge],
        looks=[Looked(one.image, choice(one.choice)) for one in release.looks],
        memorization=[to(text) for text in release.memorization],
        personality=[to(text) for text in release.personality],
    )


def renamed_character(character: Character, release: Release) -> Character:
    """The character with the same invented name in everything that prompts say of it."""
    to = _renaming(release, character.name)
    changed: dict[str, Any] = {}
    for one in fields(character):
        value = getattr(character, one.name)
        if isinstance(value, str):
            changed[one.name] = to(value)
        elif one.name == "facts":
            changed[one.name] = tuple(map(to, value))
    return replace(character, **changed)


def _renaming(release: Release, *others: str) -> Callable[[str], str]:
    name = invented_name(release)
    called = sorted({release.name, *others}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, called))})(?!\w)")
    return lambda text: pattern.sub(name, text)
