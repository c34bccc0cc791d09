"""Several characters and one user around a table: one transcript, and how each character reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from charforge import grammar
from charforge.chat.conversation import Conversation, Event
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.chat.turn import Pictures, Said
from charforge.errors import InputError


@dataclass(frozen=True)
class Line:
    """What somebody said: ``speaker`` is a character's name, None for the user. See :class:`Message` for the rest."""

    speaker: str | None
    text: str
    images: tuple[Image.Image, ...] = ()
    picture: Image.Image | None = None

    @property
    def shown(self) -> str:
        """The words without a plan."""
        return grammar.split_plan(self.text)[0] if self.speaker else self.text


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, and what comes of it."""

    speaker: str
    events: Iterator[Event]


@dataclass
class Group:
    """Characters by name on one base; often it is one alone. ``lines`` is all that was said."""

    conversations: dict[str, Conversation]
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def of(cls, sessions: Sequence[Session], pictures: Pictures = "auto") -> Group:
        """Raises InputError where two have the same name: nobody could tell them apart."""
        conversations = {session.character.name: Conversation(session, pictures) for session in sessions}
        if len(conversations) < len(sessions):
            raise InputError("two of these characters have the same name: talk to one of them at a time")
        return cls(conversations)

    @property
    def names(self) -> list[str]:
        return list(self.conversations)

    def say(self, text: str, seed: int, images: Sequence[Image.Image] = (), to: str | None = None) -> Turn:
        """The user's turn, and the answer of ``to``, else of whoever is next."""
        if not text.strip() and not images:
            raise InputError("there is nothing in this message: say something, or send a picture")
        self.lines.append(Line(None, text, tuple(images)))
        return self.speak(to or self.next_speaker(), seed)

    def speak(self, name: str, seed: int) -> Turn:
        """The turn of the character ``name``. Raises InputError when nobody here has that name."""
        speaker = self.known(name)
        conversation = self.conversations[speaker]
        conversation.messages = self.view(speaker)
        return Turn(speaker, self._recorded(speaker, conversation.answer(seed)))

    def retry(self, seed: int) -> Turn:
        """Another answer instead of the last line. Raises InputError when that is not a character's."""
        if not self.lines or self.lines[-1].speaker is None:
            raise InputError("there is no answer yet that could be given anew")
        return self.speak(str(self.lines.pop().speaker), seed)

    def edit(self, text: str) -> None:
        """Other words for the last line. Raises InputError when there is none."""
        if not self.lines:
            raise InputError("nothing has been said yet")
        self.lines[-1] = replace(self.lines[-1], text=text)

    def stop(self) -> None:
        """Whoever speaks ends with what has been said."""
        for conversation in self.conversations.values():
            conversation.stopped.set()

    def known(self, name: str) -> str:
        """The name as it is written here, whatever its case. Raises InputError when nobody has it."""
        for known in self.names:
            if known.lower() == name.strip().lower():
                return known
        raise InputError(f"there is no {name.strip()} here: {', '.join(self.names)}")

    def next_speaker(self) -> str:
        """Who is named in the last line, and did not say it; else whoever has been silent longest."""
        last = self.lines[-1] if self.lines else None
        spoke = [line.speaker for line in self.lines if line.speaker]
        others = [name for name in self.names if last is None or name != last.speaker] or self.names
        if last is not None:
            named = [(found.start(), name) for name in others if (found := _naming(name).search(last.shown))]
            if named:
                return min(named)[1]
        return max(others, key=lambda name: spoke[::-1].index(name) if name in spoke else len(spoke) + 1)

    def view(self, name: str) -> list[Message]:
        """The transcript as ``name`` knows it: its own lines, and between them what others said, as one turn."""
        messages: list[Message] = []
        for line in self.lines:
            if line.speaker == name:
                messages.append(Message("assistant", line.text, picture=line.picture))
                continue
            said = line.text if line.speaker is None else f"{line.speaker}: {line.shown}"
            if messages and messages[-1].who == "user":
                before = messages[-1]
                messages[-1] = Message("user", f"{before.text}\n{said}", before.images + line.images)
            else:
                messages.append(Message("user", said, line.images))
        return messages

    def _recorded(self, name: str, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Said):
                last = self.conversations[name].messages[-1]
                self.lines.append(Line(name, last.text, picture=last.picture))
            yield event


def _naming(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
