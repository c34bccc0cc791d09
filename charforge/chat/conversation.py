"""One conversation with one character: what was said, what is said next, and the pictures that go with it.

Terminal, server and evaluation talk through this object. The same messages, settings and seed give the same reply.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image

from charforge import grammar
from charforge.bases.drawing import draw_prompts
from charforge.chat.history import first_kept
from charforge.chat.lore import called_for
from charforge.chat.reading import Reading
from charforge.chat.session import Reply, Session
from charforge.chat.stream import reply_texts, shown_pieces
from charforge.errors import InputError
from charforge.sample import Part

Who = Literal["user", "assistant"]
Pictures = Literal["auto", "always", "never"]
"""Whether a reply comes with a picture: where it plans one, always, never."""
PLANLESS = "a picture of {name}"
LORE_CONTEXT, LORE_SHARE = 16_384, 16
"""A base that reads so many tokens is given entries of the lorebook, of one in so many tokens of its context at most.
A smaller one has learned them in training, and would be led astray by a long prompt."""


@dataclass(frozen=True)
class Message:
    """What one side said. ``text`` of the character has its plan.

    ``images`` are pictures that the user sent, ``picture`` is the one that the character sent.
    """

    who: Who
    text: str
    images: tuple[Image.Image, ...] = ()
    picture: Image.Image | None = None

    @property
    def shown(self) -> str:
        """The words without a plan."""
        return grammar.split_plan(self.text)[0] if self.who == "assistant" else self.text


@dataclass(frozen=True)
class Piece:
    """More words of the reply that is under way."""

    text: str


@dataclass(frozen=True)
class Drawing:
    """The reply is said, and its picture is being drawn from ``plan``."""

    plan: str


@dataclass(frozen=True)
class Said:
    """The reply, whole."""

    reply: Reply


Event = Piece | Drawing | Said


@dataclass
class Conversation:
    """``session`` says who speaks on which base. ``pictures`` can be changed at any time."""

    session: Session
    pictures: Pictures = "auto"
    messages: list[Message] = field(default_factory=list)
    user: str = ""
    """Who the user is, in a sentence's end: "a lighthouse keeper from the north"."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set it from anywhere, and the reply under way ends with what it has."""
    _first: int = 0
    _known: dict[tuple[str, ...], tuple[Part, ...]] = field(default_factory=dict)
    _reading: Reading = field(init=False)

    def __post_init__(self) -> None:
        self._reading = Reading(self.session.base.model)

    # what is said

    def say(self, text: str, seed: int, images: Sequence[Image.Image] = ()) -> Iterator[Event]:
        """The user's turn, and the character's answer as it is made. Raises InputError for a turn without content."""
        if not text.strip() and not images:
            raise InputError("there is nothing in this message: say something, or send a picture")
        self.messages.append(Message("user", text, tuple(images)))
        return self.answer(seed)

    def retry(self, seed: int) -> Iterator[Event]:
        """Another answer instead of the last one. Raises InputError when there is none."""
        if not self.messages or self.messages[-1].who != "assistant" or len(self.messages) < 2:
            raise InputError("there is no answer yet that could be given anew")
        self.messages.pop()
        return self.answer(seed)

    def edit(self, text: str) -> None:
        """Other words for the last message, whoever said it. Raises InputError when there is none."""
        if not self.messages:
            raise InputError("nothing has been said yet")
        self.messages[-1] = replace(self.messages[-1], text=text)

    def draw(self, scene: str, seed: int) -> Image.Image:
        """A picture of the character that belongs to no reply."""
        return self.session.imagine(scene, seed)[0]

    def answer(self, seed: int) -> Iterator[Event]:
        """The character's turn, whoever spoke last."""
        # at once and not when the first piece is asked for: who stops in between has stopped this answer
        self.stopped.clear()
        return self._answer(seed)

    def _answer(self, seed: int) -> Iterator[Event]:
        session, whole = self.session, ""

        def texts() -> Iterator[str]:
            nonlocal whole
            for whole in reply_texts(session.base.model, read, session.settings, seed):
                yield whole
                if self.stopped.is_set():
                    return

        with session.acts():
            read = self._reading.read(self._parts())
        pieces = shown_pieces(texts())
        while True:
            # what acts is chosen for each step: whoever takes the pieces may do something else in between
            with session.acts():
                piece = next(pieces, None)
            if piece is None:
                break
            yield Piece(piece)
        whole = whole.strip()
        shown, plan = grammar.split_plan(whole)
        self.messages.append(Message("assistant", whole))
        picture = None
        wanted = self.pictures == "always" or (self.pictures == "auto" and plan)
        if wanted and not self.stopped.is_set():
            plan = plan or PLANLESS.format(name=session.character.name)
            yield Drawing(plan)
            with session.acts():
                prompt = grammar.picture_prompt(session.character, plan, shown)
                picture = draw_prompts(session.base.model, [prompt], [seed])[0]
            self.messages[-1] = replace(self.messages[-1], picture=picture)
        yield Said(Reply(shown, plan if picture else None, picture))

    # what is read

    def _parts(self) -> list[Part]:
        """The system prompt and as much of the latest messages as the base has room for, in its own form."""
        told = grammar.system_prompt(self.session.character)
        system = self._part(("system", f"{told} You are talking to {self.user}." if self.user else told))
        each = [self._message_parts(message) for message in self.messages]
        lengths = [sum(part.length for part in parts) for parts in each]
        lore = self._lore()
        reserved = self.session.settings.max_tokens + sum(part.length for part in (*system, *lore))
        room = self.session.base.model.shapes.context_tokens - reserved
        self._first = first_kept(lengths, [m.who == "user" for m in self.messages], room, self._first)
        kept = each[self._first :]
        # before what was said last: all that stands before it has been read already
        return [*system, *(part for parts in kept[:-1] for part in parts), *lore, *(kept[-1] if kept else ())]

    def _lore(self) -> tuple[Part, ...]:
        """What the lorebook knows of what is being talked about."""
        context, text = self.session.base.model.shapes.context_tokens, self.session.base.model.text
        if context < LORE_CONTEXT or not self.session.lore.entries:
            return ()
        said = [message.shown for message in self.messages]
        known = called_for(self.session.lore, said, lambda words: text(words).length, context // LORE_SHARE)
        return self._part(("system", "\n".join(known))) if known else ()

    def _message_parts(self, message: Message) -> tuple[Part, ...]:
        looks = [part for image in message.images for part in self._look(image)]
        return (*looks, *(self._part((message.who, message.text)) if message.text or not looks else ()))

    def _part(self, said: tuple[str, str]) -> tuple[Part, ...]:
        """The same object for the same words: what has been read is known again by it."""
        if said not in self._known:
            self._known[said] = (self.session.base.model.text(said[1], said[0]),)
        return self._known[said]

    def _look(self, image: Image.Image) -> tuple[Part, ...]:
        # by what it shows: the same picture may come again as another object
        key = (image.mode, str(image.size), hashlib.sha256(image.tobytes()).hexdigest())
        if key not in self._known:
            self._known[key] = (self.session.base.model.look(image),)
        return self._known[key]


def reply_of(events: Iterator[Event]) -> Reply:
    """The reply at the end of ``events``."""
    for event in events:
        if isinstance(event, Said):
            return event.reply
    raise ValueError("these events end without a reply")
