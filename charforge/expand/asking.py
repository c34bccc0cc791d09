"""What a language model is asked: the files in ``prompts/``, filled in. One request asks for several things at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from charforge.character import Dialogue

Kind = Literal[
    "dialogues", "conversations", "pictures", "requests", "refusals", "knowledge", "looks", "scenes", "caption",
    "probe", "memorization", "personality",
]  # fmt: skip
"""What is written; the last two are judged (charforge/evaluate/judging.py)."""


@dataclass(frozen=True)
class Request:
    """One thing to write. ``messages`` are (role, text); ``image`` is a picture's name, seen before all of them."""

    kind: Kind
    messages: tuple[tuple[str, str], ...]
    image: str | None = None
    max_tokens: int = 60


Complete = Callable[[Sequence[Request]], Sequence[str]]
"""A writer: one text a request, in order. It keeps what it wrote, so that asking again costs nothing."""

EXAMPLES = 4
"""Dialogues shown before new ones."""
_FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Example:
    """One exchange of the character's own, as a prompt shows it."""

    visitor: str
    reply: str


def examples_of(dialogues: Sequence[Dialogue], chooser: random.Random) -> list[Example]:
    """Some of the character's own exchanges, drawn by ``chooser``."""
    pairs = [
        Example(asked.text, said.text)
        for dialogue in dialogues
        for asked, said in zip(dialogue.turns, dialogue.turns[1:], strict=False)
        if asked.role == "user" and said.role == "character"
    ]
    return chooser.sample(pairs, min(EXAMPLES, len(pairs)))


def ask(
    kind: Kind, max_tokens: int, image: str | None = None, folder: Path = _FOLDER, **values: object
) -> Request:  # fmt: skip
    """A request made from ``KIND.md`` in ``folder``: a line that says what the writer is, then what it is asked."""
    system, _, asked = _template(f"{kind}.md", folder).render(**values).partition("\n---\n")
    messages = (("system", " ".join(system.split())), ("user", _paragraphs(asked)))
    return Request(kind, messages, image, max_tokens)


def ask_again(request: Request, answer: str, problem: str) -> Request:
    """The same request once more, after an answer that could not be used."""
    complaint = _template("again.md").render(problem=problem).strip()
    # a small model reads its own bad answer as an example of how to answer: a short piece of it is enough
    return Request(
        request.kind,
        (*request.messages, ("assistant", answer[:200] or "..."), ("user", complaint)),
        request.image,
        request.max_tokens,
    )


def topics(count: int, chooser: random.Random) -> list[str]:
    """``count`` topics that differ: all topics before one comes again, and then with another mood."""
    subjects, moods = _lines("topics.txt"), _lines("moods.txt")
    drawn: list[str] = []
    rounds = 0
    while len(drawn) < count:
        order = chooser.sample(range(len(subjects)), len(subjects))
        # subject and mood advance together by different strides: no pair of them comes twice
        drawn += [f"{subjects[n]} ({moods[(n + rounds) % len(moods)]})" for n in order]
        rounds += 1
    return drawn[:count]


@cache
def _environment(folder: Path) -> Environment:
    # prompts are no web pages: nothing is escaped
    return Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=False, keep_trailing_newline=False,
    )  # fmt: skip


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple(line for line in (_FOLDER / name).read_text("utf-8").splitlines() if line)


def _template(name: str, folder: Path = _FOLDER):  # type: ignore[no-untyped-def]
    return _environment(folder).get_template(name)


def _paragraphs(text: str) -> str:
    """Without the empty lines that loops leave behind."""
    blocks = [block.strip("\n") for block in text.split("\n\n")]
    return "\n\n".join(block for block in blocks if block.strip())
