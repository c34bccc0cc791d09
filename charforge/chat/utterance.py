"""A reply as it grows, token by token: what of it may be shown, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from charforge.chat.sampler import sampler_of
from charforge.families.protocol import UnifiedModel
from charforge.settings import ChatSettings

PLAN = "[picture:"
UNFINISHED = "\ufffd"
"""Stands for bytes that are no letter yet: the next token completes them."""
Finish = Literal["stop", "length"]
"""Why a reply is over: it ended (or was ended), or it became as long as it may."""


@dataclass(frozen=True)
class Scored:
    """A token that was said, its log-probability in nats, and those of the likeliest at its place, likeliest first."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass
class Utterance:
    """One reply of ``model``. ``text`` is all that was said, the plan of a picture included.

    The same settings, seed and logits give the same reply. ``stop`` are words that end it and are not said.
    """

    model: UnifiedModel
    settings: ChatSettings
    seed: int
    stop: tuple[str, ...] = ()
    top: int | None = None
    """How many of the likeliest tokens are noted at each place in ``scores``; None: nothing is noted."""
    scores: list[Scored] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    _shown: int = 0

    def __post_init__(self) -> None:
        self._choose = sampler_of(self.settings, 1, self.seed)

    def take(self, logits: Tensor) -> tuple[Tensor, str]:
        """The next token (1,), chosen by ``logits`` (1, vocabulary), and what may be shown now.

        ``finish`` says whether it was the last.
        """
        chosen = self._choose(logits)
        token = int(chosen)
        if self.model.ends(token):
            return chosen, self.close("stop")
        self.tokens.append(token)
        if self.top is not None and before_plan(self.text) == self.text:
            self.scores.append(self._scored(token, logits))
        text = self.model.words(self.tokens)
        if not text.endswith(UNFINISHED):
            self.text = text
            places = [place for word in self.stop if (place := text.find(word)) >= 0]
            if places:
                self.text = text[: min(places)]
                return chosen, self.close("stop")
        if len(self.tokens) == self.settings.max_tokens:
            return chosen, self.close("length")
        return chosen, self._show(readable(self.text, self.stop))

    def _scored(self, token: int, logits: Tensor) -> Scored:
        logs = logits[0].float().log_softmax(-1)
        best = logs.topk(self.top or 1)
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = tuple((self.model.words([other]), value) for other, value in others) if self.top else ()
        return Scored(self.model.words([token]), float(logs[token]), top)

    def close(self, finish: Finish) -> str:
        """End the reply here; what of it could not be shown before."""
        self.finish = finish
        return self._show(len(before_plan(self.text).rstrip()))

    def _show(self, end: int) -> str:
        piece = self.text[self._shown : max(end, self._shown)]
        self._shown += len(piece)
        return piece


def before_plan(text: str) -> str:
    """What stands before the plan of a picture."""
    place = text.lower().find(PLAN)
    return text if place < 0 else text[:place]


def readable(text: str, stop: Sequence[str] = ()) -> int:
    """How much of a growing ``text`` is sure to be shown: up to a plan, or to an end that may become the beginning of a
    plan or of a word that stops it."""
    before = before_plan(text)
    if len(before) == len(text):
        begun = [_begun(text.lower(), PLAN), *(_begun(text, word) for word in stop)]
        before = text[: len(text) - max(begun)]
    # the space before a plan belongs to nobody
    return len(before.rstrip())


def _begun(text: str, word: str) -> int:
    """How many letters of ``word`` ``text`` ends with."""
    return next((length for length in range(len(word) - 1, 0, -1) if text.endswith(word[:length])), 0)
