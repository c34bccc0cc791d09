"""The seam between a server and what computes: routes know this file, and either of two engines stands behind it.

``local.py`` computes here, ``remote.py`` asks another server that speaks OpenAI's interface. Orders and events are
plain values; nothing of HTTP is in them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from charforge.character import Character
from charforge.chat.messages import Message
from charforge.chat.turn import Drawing, Pictures, Said
from charforge.errors import CharforgeError


class Busy(CharforgeError):
    """Too many are waiting. ``seconds`` from now it is worth trying again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooLate(CharforgeError):
    """An order took longer than an order may."""


class Unavailable(CharforgeError):
    """What computes cannot be asked now, or has failed."""


@dataclass(frozen=True)
class Voice:
    """Somebody who can be talked to. ``character`` is None for a base as it is, without any."""

    id: str
    name: str
    base: str
    character: Character | None = None
    greetings: tuple[str, ...] = ()
    description: str = ""
    avatar: bytes | None = None
    """A PNG file."""
    side: tuple[int, int] = (0, 0)
    """Width and height of the pictures it draws; 0 where that is not known here."""
    steps: int = 0


@dataclass(frozen=True)
class ChatOrder:
    """A reply of ``voice`` to ``messages`` is wanted, ``count`` of them with the seeds ``seed``, ``seed`` + 1, ...

    What is None is as the character's bundle says. ``told`` is what the client tells the character beside its own
    prompt.
    """

    voice: str
    messages: tuple[Message, ...]
    seed: int
    count: int = 1
    pictures: Pictures = "auto"
    user: str = ""
    told: str = ""
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    previews: bool = False
    """Whether pictures are wanted as they look while they are being drawn."""
    top: int | None = None
    """How many of the likeliest tokens are wanted at each place, with their log-probabilities; None: none are."""


@dataclass(frozen=True)
class PictureOrder:
    """Pictures of ``prompt`` are wanted; the character's name is added where it is missing."""

    voice: str
    prompt: str
    seed: int
    count: int = 1
    previews: bool = False


@dataclass(frozen=True)
class Piece:
    """More words of a reply."""

    text: str


@dataclass(frozen=True)
class Progress:
    """So many of the steps of a picture are done, and it looks like this."""

    done: int
    steps: int
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Drawn:
    """The pictures, the prompt they were drawn from, and their likeness to the character where it was measured."""

    pictures: tuple[Image.Image, ...]
    prompt: str
    likeness: tuple[float, ...] = ()


ChatEvent = Piece | Drawing | Progress | Said
PictureEvent = Progress | Drawn


@dataclass(frozen=True)
class Figures:
    """Orders that wait and that are being carried out; tokens, passes of the model for words, pictures so far."""

    waiting: int = 0
    active: int = 0
    tokens: int = 0
    passes: int = 0
    pictures: int = 0


class Engine(Protocol):
    """What computes.

    Both methods end what they began when nobody asks for the next event any more. They raise InputError for an order
    that cannot be carried out, Busy when too many are waiting, TooLate and Unavailable.
    """

    @property
    def voices(self) -> Mapping[str, Voice]:
        """Who can be talked to, by id, in the order in which they are listed."""

    def chat(self, order: ChatOrder) -> AsyncIterator[tuple[int, ChatEvent]]:
        """The replies as they are made: which of them, and what of it. Each ends with Said."""

    def draw(self, order: PictureOrder) -> AsyncIterator[PictureEvent]:
        """The pictures as they are made, ending with Drawn."""

    def figures(self) -> Figures:
        """What it does, and has done."""

    def stop(self) -> None:
        """Take no more orders, and end those under way with Unavailable; returns at once."""

    def close(self) -> None:
        """Wait until everything has ended."""
