"""Who can be talked to: the characters of bundles, and their base as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charforge.bases.hashes import content_hash, other_weights
from charforge.bases.language import ensure_language_weights
from charforge.bases.where import find_base
from charforge.bundle import Bundle, read_bundle
from charforge.bundle.manifest import BaseInfo
from charforge.character import Character
from charforge.character.cards.macros import resolved
from charforge.chat.lore import card_lorebook
from charforge.chat.session import Session, Style, open_character
from charforge.errors import CharforgeError, InputError
from charforge.serve.engine import Voice
from charforge.serve.local import Seat
from charforge.serve.remote import RemoteVoice
from charforge.settings import ChatSettings
from charforge.words import file_stem

MOST_GREETINGS = 50


class NoSuchModel(InputError):
    """A request names a model that is not served."""


def voice_of(voices: Mapping[str, Voice], model: str) -> Voice:
    """The voice of this id, in capital letters or not; the first one where none is named. Raises NoSuchModel."""
    if not model:
        return next(iter(voices.values()))
    found = model if model in voices else model.lower()
    if found not in voices:
        raise NoSuchModel(f"model: there is no {model[:100]!r} here; there are {', '.join(voices)}")
    return voices[found]


def bundles_in(sources: Sequence[Path], one_base: bool, left_out: Callable[[str], None]) -> list[Path]:
    """The bundles that are named, and those in folders that are named, by name.

    What of a folder is damaged is ``left_out``, with the reason: it must not keep the others from their visitors. With
    ``one_base`` so is what was trained on a base that is not here, or on another than the first. Raises InputError
    where nothing of a folder is left.
    """
    found: list[Path] = []
    bases = _Bases()
    for source in sources:
        if not source.is_dir():
            if one_base:
                bases.first = bases.first or read_bundle(source).manifest.base.content_hash
            found.append(source)
            continue
        inside = sorted(source.glob("*.charx"))
        if not inside:
            raise InputError(f"{source} holds no .charx bundle: name a bundle, or a folder with some")
        fit = []
        for path in inside:
            try:
                told = read_bundle(path).manifest.base
                if one_base:
                    bases.check(path, told)
                fit.append(path)
            except CharforgeError as error:
                left_out(f"left out: {error}")
        if not fit:
            raise InputError(
                f"{source}: none of its {len(inside)} bundles can be served; `charforge inspect` says more"
            )
        found += fit
    return found


class _Bases:
    """The hash of the base that all share, and those of the bases that are here, by name."""

    def __init__(self) -> None:
        self.first: str | None = None
        self.here: dict[str, str] = {}

    def check(self, path: Path, told: BaseInfo) -> None:
        """Raises CharforgeError where the character of ``path`` cannot speak on the base that the first one has."""
        if told.name not in self.here:
            if told.name == "mini":
                ensure_language_weights()
            self.here[told.name] = content_hash(list(find_base(told.name).identity))
        if self.here[told.name] != told.content_hash:
            raise InputError(f"{path} {other_weights(told.name, told.content_hash, self.here[told.name])}")
        self.first = self.first or told.content_hash
        if told.content_hash != self.first:
            raise InputError(f"{path} was trained on another base ({told.name}) than the first character")


def character_voice(bundle: Bundle, taken: Collection[str]) -> Voice:
    """The voice of a bundle; its id is the character's name as a file name, with a number where that is ``taken``."""
    character = bundle.manifest.to_character()
    stem = slug(character.name)
    number = next(n for n in range(1, len(taken) + 2) if (stem if n == 1 else f"{stem}-{n}") not in taken)
    data = bundle.card.get("data")
    card = data if isinstance(data, dict) else {}
    return Voice(
        stem if number == 1 else f"{stem}-{number}",
        character.name,
        bundle.manifest.base.name,
        character,
        _greetings(character, card),
        character.persona,
        bundle.avatar(),
    )


def _greetings(character: Character, card: Mapping[str, Any]) -> tuple[str, ...]:
    others = card.get("alternate_greetings")
    each = [character.opening, *(others if isinstance(others, list) else [])]
    told = [text for text in each[:MOST_GREETINGS] if isinstance(text, str) and text.strip()]
    return tuple(resolved(text, character.name, "you", set()) for text in told)


def slug(name: str) -> str:
    """A name as an id: letters of other alphabets stay where there are no Latin ones."""
    latin = re.search(r"[a-z0-9]", name.lower())
    return file_stem(name) if latin else re.sub(r"\W+", "-", name.lower()).strip("-") or file_stem(name)


def remote_voices(bundles: Sequence[Path], model: str | None) -> list[RemoteVoice]:
    """The characters of ``bundles``, for another server, which calls them ``model``, or by their ids."""
    voices: list[RemoteVoice] = []
    for path in bundles:
        bundle = read_bundle(path)
        voice = character_voice(bundle, [one.voice.id for one in voices])
        settings = ChatSettings(**bundle.manifest.chat.model_dump())
        voices.append(RemoteVoice(voice, settings, card_lorebook(bundle.card, voice.name), model or voice.id))
    return voices


def open_seats(
    bundles: Sequence[Path], device: str | None, scale: float = 1.0, styles: Sequence[Style] = ()
) -> list[Seat]:
    """Each bundle's character on one base, and last that base as it is.

    Raises InputError for a bundle that is damaged, or that was trained on another base than the first.
    """
    seats: list[Seat] = []
    for path in bundles:
        voice = character_voice(read_bundle(path), [seat.voice.id for seat in seats])
        first = seats[0].session if seats else None
        seats.append(_seat(voice, open_character(path, True, device, first, scale, styles)))
    base = seats[0].session.base
    bare = Session(base, seats[0].session.character, ChatSettings(), bare=True)
    taken = {seat.voice.id for seat in seats}
    return [*seats, _seat(Voice(free_id(file_stem(base.name), taken), base.name, base.name), bare)]


def free_id(name: str, taken: Collection[str]) -> str:
    """The id of the base as it is: its name, where no character is called that."""
    free, number = name, 1
    while free in taken:
        free, number = f"{name}-base" if number == 1 else f"{name}-base-{number}", number + 1
    return free


def _seat(voice: Voice, session: Session) -> Seat:
    shapes = session.base.model.shapes
    steps = shapes.drawing_settings.get("steps")
    return Seat(replace(voice, side=shapes.drawing_size, steps=steps if isinstance(steps, int) else 0), session)
