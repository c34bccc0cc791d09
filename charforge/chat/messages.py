"""What was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image

from charforge import grammar

Who = Literal["user", "assistant"]


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
class Reply:
    """What the character said, the plan of its picture and the picture, if it wanted to send one.

    ``likeness`` of the picture to the character's own, where it was measured.
    """

    text: str
    plan: str | None
    image: Image.Image | None
    likeness: float | None = None
