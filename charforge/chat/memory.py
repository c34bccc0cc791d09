"""What a model has read of a conversation, kept: a turn reads only what is new, so that turn twenty begins to speak as
soon as turn two."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from charforge.chat.history import kept_from
from charforge.chat.lore import LORE_SHARE, called_for
from charforge.chat.messages import Message
from charforge.chat.session import Session
from charforge.errors import InputError
from charforge.families.results import Conditioning
from charforge.sample import Part

LORE_CONTEXT = 16_384
"""A base that reads so many tokens is given entries of the lorebook.
A smaller one has learned them in training, and would be led astray by a long prompt."""
PIECE = 512
"""Tokens that are read at a time: others wait no longer than for that, and whoever stops it no longer either."""
KEPT = 4
"""How many of the latest states are kept: retrying, editing and going on begin behind one of them."""


@dataclass(frozen=True)
class Reading:
    """``done`` of ``of`` messages have been read; of a long one, so far a piece."""

    done: int
    of: int


@dataclass
class Memory:
    """One conversation as the model of ``session`` has read it.

    What is read is decided by the messages alone; what is kept decides only how much of it is read anew.
    """

    session: Session
    messages: tuple[Message, ...] = ()
    """What was read last."""
    _known: dict[tuple[str, ...], Part] = field(default_factory=dict)
    _parts: list[Part] = field(default_factory=list)
    _states: dict[int, Conditioning] = field(default_factory=dict)

    def fork(self) -> Memory:
        """Another one that knows the same: for a conversation that begins, or goes on, as this one did."""
        return replace(self, _known=dict(self._known), _parts=list(self._parts), _states=dict(self._states))

    @property
    def tokens(self) -> int:
        """Of all states together: what it costs to keep them."""
        return sum(state.tokens for state in self._states.values())

    def reading(
        self, messages: Sequence[Message], reply_tokens: int, user: str = "", told: str = ""
    ) -> Generator[Reading, None, Conditioning]:
        """Read ``messages``, with room for a reply of so many tokens, message by message; returns what the model makes
        of them.

        ``user`` says who the user is, in a sentence's end; ``told`` is told to the character beside its own prompt.
        What acts on the model is the caller's affair, and the same each time. Raises InputError for a last message that
        is longer than what the base reads.
        """
        parts = self.parts(messages, reply_tokens, user, told)
        length, context = sum(part.length for part in parts), self.session.base.model.shapes.context_tokens
        if length + reply_tokens > context:
            raise InputError(
                f"messages: {length} tokens, with {reply_tokens} for the reply, are more than the {context} that this "
                "base reads; say it in fewer words"
            )
        self.messages = tuple(messages)
        return (yield from self._read(parts))

    def parts(self, messages: Sequence[Message], reply_tokens: int, user: str = "", told: str = "") -> list[Part]:
        """The system prompt and as much of the latest messages as the base has room for, in its own form."""
        known: dict[tuple[str, ...], Part] = {}
        own = [prompt for prompt in (self.session.prompt(user), told) if prompt]
        system = [self._text("system", "\n".join(own), known)] if own else []
        each = [self._message(message, known) for message in messages]
        lengths = [sum(part.length for part in parts) for parts in each]
        room = self.session.base.model.shapes.context_tokens - reply_tokens - sum(part.length for part in system)
        lore = self._lore(messages, known)
        if self.session.lore.entries and self._reads_lore:
            # the same room whatever is called for, so that what is cut off does not come back
            room -= self.session.base.model.shapes.context_tokens // LORE_SHARE
        kept = each[kept_from(lengths, [message.who == "user" for message in messages], room) :]
        self._known = known
        # before what was said last: all that stands before it has been read already
        return [*system, *(part for parts in kept[:-1] for part in parts), *lore, *(kept[-1] if kept else ())]

    def shared(self, messages: Sequence[Message]) -> int:
        """How many of the first ``messages`` are those that were read last."""
        same = zip(self.messages, messages, strict=False)
        return next(
            (n for n, (one, other) in enumerate(same) if not _alike(one, other)), min(len(self.messages), len(messages))
        )

    @property
    def _reads_lore(self) -> bool:
        return self.session.base.model.shapes.context_tokens >= LORE_CONTEXT

    def _lore(self, messages: Sequence[Message], known: dict[tuple[str, ...], Part]) -> list[Part]:
        """What the lorebook knows of what is being talked about."""
        if not self._reads_lore or not self.session.lore.entries:
            return []
        model, said = self.session.base.model, [message.shown for message in messages]
        room = model.shapes.context_tokens // LORE_SHARE
        called = called_for(self.session.lore, said, lambda words: model.text(words).length, room)
        return [self._text("system", "\n".join(called), known)] if called else []

    def _message(self, message: Message, known: dict[tuple[str, ...], Part]) -> list[Part]:
        looks = [self._look(image, known) for image in message.images]
        return [*looks, self._text(message.who, message.text, known)] if message.text or not looks else looks

    def _text(self, role: str, text: str, known: dict[tuple[str, ...], Part]) -> Part:
        """The same object for the same words: what has been read is known again by it."""
        key = (role, text)
        if key not in known:
            known[key] = self._known.get(key) or self.session.base.model.text(text, role)
        return known[key]

    def _look(self, image: Image.Image, known: dict[tuple[str, ...], Part]) -> Part:
        # by what it shows: the same picture may come again as another object
        key = (image.mode, str(image.size), hashlib.sha256(image.tobytes()).hexdigest())
        if key not in known:
            known[key] = self._known.get(key) or self.session.base.model.look(image)
        return known[key]

    def _read(self, parts: list[Part]) -> Generator[Reading, None, Conditioning]:
        model = self.session.base.model
        same = next((n for n, (a, b) in enumerate(zip(self._parts, parts, strict=False)) if a is not b), None)
        common = min(len(self._parts), len(parts)) if same is None else same
        begin = max((length for length in self._states if length <= common), default=0)
        state = self._states.get(begin)
        self._states = {length: kept for length, kept in self._states.items() if length <= common}
        self._parts = parts
        for length in range(begin, len(parts)):
            for number, piece in enumerate(model.pieces(parts[length], PIECE)):
                if number:
                    yield Reading(length, len(parts))
                with model.autocast():
                    state = model.read([(piece,)], state)
            assert state is not None, "a part has a piece at least"
            self._states[length + 1] = state
            if length + 1 < len(parts):
                yield Reading(length + 1, len(parts))
        # the first is what every conversation with this character begins with
        for length in sorted(self._states)[1:-KEPT]:
            del self._states[length]
        return model.read([()]) if state is None else state


def _alike(one: Message, other: Message) -> bool:
    return (one.who, one.text) == (other.who, other.text) and one.images == other.images
