"""A language model behind a URL as a judge of replies: only where somebody asks for it, never by default.

What it is asked stands in ``judge_prompts``, one file a question; its answers are kept, so that nothing is paid twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from charforge import grammar
from charforge.character import Character
from charforge.errors import InputError, MachineError
from charforge.evaluate.intervals import Series
from charforge.evaluate.series import State
from charforge.expand.answers import parse
from charforge.expand.asking import Complete, Request, ask, ask_again
from charforge.expand.endpoint import Endpoint, EndpointSettings
from charforge.expand.kept import Kept

Aspect = Literal["memorization", "personality"]
ASPECTS: tuple[Aspect, ...] = ("memorization", "personality")
PROMPTS = Path(__file__).parent / "judge_prompts"
LOWEST, HIGHEST = 1, 5
ANSWER_TOKENS = 120
LONGEST = 6000
"""Characters of a profile, and of what was said, that the judge reads."""


class Judgement(BaseModel):
    """What a judge must answer; keys of its own are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    score: int = Field(ge=LOWEST, le=HIGHEST)
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One reply to judge. ``profile``: what is known of the character ``name``."""

    aspect: Aspect
    name: str
    profile: str
    asked: str
    reply: str

    def request(self) -> Request:
        """What the judge is asked."""
        return ask(
            self.aspect, ANSWER_TOKENS, folder=PROMPTS, name=self.name, profile=_material(self.profile),
            asked=_material(self.asked), reply=_material(self.reply),
        )  # fmt: skip


def _material(text: str) -> str:
    """A text as it stands between the judge's marks, which it cannot close."""
    return re.sub(r"<<<|>>>", "...", text[:LONGEST]).strip() or "(nothing)"


def judged(complete: Complete, cases: Sequence[Case]) -> list[Judgement | None]:
    """What the judge says of each case; None where it answered twice in another form than was asked for.

    Raises what ``complete`` raises; what was answered until then is kept by it.
    """
    requests = [case.request() for case in cases]
    found = {request: _judgement(answer) for request, answer in zip(requests, complete(requests), strict=True)}
    wrong = [request for request, judgement in found.items() if judgement is None]
    if wrong:
        answers = complete(wrong)
        again = [
            ask_again(request, answer, "The answer held no score from 1 to 5.")
            for request, answer in zip(wrong, answers, strict=True)
        ]
        found |= {request: _judgement(answer) for request, answer in zip(wrong, complete(again), strict=True)}
    return [found[request] for request in requests]


def _judgement(answer: str) -> Judgement | None:
    return next(iter(parse(answer, Judgement).items), None)


def judged_series(complete: Complete, cases: Sequence[Case]) -> dict[str, Series]:
    """``memorization`` (does a reply agree with what is known of the character?) and ``personality`` (is it the
    character who speaks?).

    - Range: 0 to 1, higher is better: the judge's 1 to 5, moved to 0 to 1. What it did not answer in the form that was
      asked for counts nowhere.
    - Source: language models as judges of dialogue (Zheng et al. 2023); the two aspects are those of RoleScape.
    - Caveat: another judge, or another version of the same one, gives other figures: compare only what one judge has
      judged. Judges like long replies, and their own.
    """
    verdicts = judged(complete, cases)
    found: dict[str, Series] = {}
    for aspect in ASPECTS:
        rows = [(case, one) for case, one in zip(cases, verdicts, strict=True) if case.aspect == aspect]
        scores = np.array([np.nan if one is None else (one.score - LOWEST) / (HIGHEST - LOWEST) for _, one in rows])
        if len(scores) and not np.isnan(scores).all():
            found[aspect] = Series(tuple(case.asked for case, _ in rows), scores)
    return found


def cases_of(state: State, character: Character) -> list[Case]:
    """Each reply of a run to a held-out conversation, for both aspects."""
    profile, replies = profile_of(character), state.replies
    said = [(one, reply) for one, reply in zip(replies.asked, replies.shown, strict=True) if one.turns]
    return [Case(aspect, character.name, profile, one.heard, reply) for aspect in ASPECTS for one, reply in said]


def profile_of(character: Character) -> str:
    """What the files say of the character, as the judge reads it."""
    about = (grammar.introduction(character), grammar.whole_persona(character), character.appearance, *character.facts)
    return "\n".join(text for text in about if text)


@dataclass(frozen=True)
class JudgeOptions:
    """The judge that the user named."""

    url: str
    model: str

    def checked(self) -> JudgeOptions:
        """These options. Raises InputError where URL or model is missing."""
        if not self.url.startswith(("http://", "https://")):
            raise InputError(
                "the judge needs the URL of an OpenAI-compatible server, for example "
                "--judge-url http://localhost:8000/v1"
            )
        if not self.model:
            raise InputError("the judge needs --judge-model: the name of the model behind the URL")
        return self

    def endpoint(self, kept_file: Path) -> Endpoint:
        """A client whose answers are kept in ``kept_file``."""
        settings = EndpointSettings(self.url, self.model, temperature=0.0, options="--judge-url and --judge-model")
        return Endpoint(settings, Kept(kept_file, f"judge {self.url} {self.model}"), {})


def spent_of(endpoint: Endpoint, error: InputError | MachineError | None = None) -> dict[str, Any]:
    """What the judge cost, for JSON; ``failed`` says why it did not come to its end."""
    spent = endpoint.spent
    told: dict[str, Any] = {"url": endpoint.settings.url, "model": endpoint.settings.model, **vars(spent)}
    return told | ({"failed": str(error)} if error is not None else {})
