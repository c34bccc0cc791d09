"""One conversation with one character: what was said, what is said next, and the pictures that go with it.

Terminal and evaluation talk through this object, a server through its parts (charforge/chat/turn.py). The same
messages, settings and seed give the same reply.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from charforge.bases.drawing import DrawingProgress
from charforge.chat.imagine import imagine
from charforge.chat.memory import Memory, Reading
from charforge.chat.messages import Message, Reply
from charforge.chat.session import Session
from charforge.chat.turn import Drawing, Pictures, Said, Speak, Step, Wish, take_turn
from charforge.errors import InputError


@dataclass(frozen=True)
class Piece:
    """More words of the reply that is under way."""

    text: str


Event = Piece | Drawing | DrawingProgress | Said


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

    def __post_init__(self) -> None:
        self._memory = Memory(self.session)

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
        return imagine(self.session, scene, [seed]).pictures[0]

    def answer(self, seed: int) -> Iterator[Event]:
        """The character's turn, whoever spoke last."""
        # at once and not when the first piece is asked for: who stops in between has stopped this answer
        self.stopped.clear()
        wish = Wish(self.session.settings, seed, self.pictures, self.user, is_over=self.stopped.is_set)
        return self._answered(take_turn(self._memory, self.messages, wish))

    def _answered(self, turn: Iterator[Step]) -> Iterator[Event]:
        while True:
            # what acts is chosen for each step: whoever takes the events may do something else in between
            with self.session.computes():
                step = next(turn)
            if isinstance(step, Reading):
                continue
            if isinstance(step, Speak):
                yield from self._spoken(step)
                self.messages.append(Message("assistant", step.utterance.text.strip()))
                continue
            if isinstance(step, Said):
                self.messages[-1] = replace(self.messages[-1], picture=step.reply.image)
            yield step
            if isinstance(step, Said):
                return

    def _spoken(self, step: Speak) -> Iterator[Piece]:
        said, speaking = step.utterance, self.session.base.model.speaking()
        with self.session.computes():
            speaking.join(step.read, said.settings.max_tokens)
        while said.finish is None:
            with self.session.computes():
                token, piece = said.take(speaking.logits)
            if self.stopped.is_set() and said.finish is None:
                piece += said.close("stop")
            if piece:
                yield Piece(piece)
            if said.finish is None:
                with self.session.computes():
                    speaking.feed(token)


def reply_of(events: Iterator[Event]) -> Reply:
    """The reply at the end of ``events``."""
    for event in events:
        if isinstance(event, Said):
            return event.reply
    raise ValueError("these events end without a reply")
