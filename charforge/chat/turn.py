"""One turn of a character, whoever has the model compute it: alone in a terminal, or side by side in a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from charforge import grammar
from charforge.bases.drawing import DrawingProgress
from charforge.chat.imagine import draw_best
from charforge.chat.memory import Memory, Reading
from charforge.chat.messages import Message, Reply
from charforge.chat.utterance import Finish, Scored, Utterance
from charforge.families.results import Conditioning
from charforge.settings import ChatSettings

Pictures = Literal["auto", "always", "never"]
"""Whether a reply comes with a picture: where it plans one, always, never."""
PLANLESS = "a picture of {name}"


@dataclass(frozen=True)
class Speak:
    """Words are wanted: whoever takes the turn has ``utterance`` said after ``read`` until it is over."""

    read: Conditioning
    utterance: Utterance


@dataclass(frozen=True)
class Drawing:
    """The reply is said, and its picture is being drawn from ``plan``."""

    plan: str


@dataclass(frozen=True)
class Said:
    """The reply, whole. ``text`` is it with its plan, as the next turn reads it; ``tokens`` were read and said."""

    reply: Reply
    text: str
    finish: Finish
    tokens: tuple[int, int]
    scores: tuple[Scored, ...] = ()


Step = Reading | Speak | Drawing | DrawingProgress | Said


@dataclass(frozen=True)
class Wish:
    """What is wanted of a turn. ``user`` and ``told`` are those of :meth:`Memory.reading`, ``stop`` and ``top``
    those of :class:`Utterance`; ``is_over`` is asked between two steps of a drawing."""

    settings: ChatSettings
    seed: int
    pictures: Pictures = "auto"
    user: str = ""
    told: str = ""
    stop: tuple[str, ...] = ()
    top: int | None = None
    is_over: Callable[[], bool] = field(default=lambda: False)


def take_turn(memory: Memory, messages: Sequence[Message], wish: Wish) -> Iterator[Step]:
    """The character's turn after ``messages``: reading, then :class:`Speak`, then a picture, step by step, then
    :class:`Said`. The same messages and wish give the same reply.

    Each step is asked for inside ``memory.session.acts()`` and the model's autocast.
    """
    session = memory.session
    read = yield from memory.reading(messages, wish.settings.max_tokens, wish.user, wish.told)
    said = Utterance(session.base.model, wish.settings, wish.seed, wish.stop, wish.top)
    yield Speak(read, said)
    assert said.finish is not None
    whole = said.text.strip()
    shown, plan = grammar.split_plan(whole)
    picture: Image.Image | None = None
    likeness: float | None = None
    wanted = wish.pictures == "always" or (wish.pictures == "auto" and plan)
    if wanted and not wish.is_over():
        plan = plan or PLANLESS.format(name=session.character.name)
        yield Drawing(plan)
        prompt = grammar.picture_prompt(session.character, plan, shown)
        for progress in draw_best(session, prompt, plan, [wish.seed]):
            if progress.pictures:
                picture, likeness = progress.pictures[0], next(iter(progress.likeness), None)
            elif wish.is_over():
                break
            else:
                yield progress
    reply = Reply(shown, plan if picture else None, picture, likeness)
    yield Said(reply, whole, said.finish, (read.tokens, len(said.tokens)), tuple(said.scores))
