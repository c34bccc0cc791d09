"""What a language model is asked to write, and how its answers become pairs.

The writer only words things: other wordings of a question keep the user's reply, questions about a fact are answered
by the fact, a caption describes a picture that is there. Only ``reply`` invents, in the voice of the examples, and is
filtered hardest. Prompts show examples instead of rules: small models follow them better.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from charforge import grammar
from charforge.character import Character
from charforge.character.profile import sentences
from charforge.expand.drafts import Draft, introduction, talk
from charforge.expand.holdout import HeldOut
from charforge.expand.pairs import ImagePart, TextPart, WriterName
from charforge.expand.persons import ended, first_person
from charforge.expand.requests import picture_requests


@dataclass(frozen=True)
class Request:
    """One thing to write. ``messages`` are (role, text); ``image`` is a picture's name, seen before all of them."""

    kind: Literal["reword", "ask", "visit", "reply", "caption"]
    messages: tuple[tuple[str, str], ...]
    image: str | None = None
    max_tokens: int = 60


Complete = Callable[[Sequence[Request]], Sequence[str]]
"""A writer: one text a request, in order. It keeps what it wrote, so that asking again costs nothing."""

TOPICS = (
    "the weather", "breakfast", "a strange noise", "an old friend", "a journey", "music", "a lost thing", "sleep",
    "a birthday", "a secret", "work", "a walk outside", "a storm", "a present", "a dream", "winter", "a game",
    "a stranger at the door", "a favourite place", "being afraid", "a mistake", "a story", "the sea", "tomorrow",
)  # fmt: skip
EXAMPLES = 3
"""Dialogues shown before a new reply."""


def authored_drafts(
    character: Character, held: HeldOut, writer: WriterName, complete: Complete, invents: bool, seed: int
) -> list[Draft]:
    """Everything a language model adds to the template's pairs. Two rounds: replies answer the visits of the first."""
    reworded = list(_rewordings(character, held))
    asked = list(_questions(character))
    visits = _visits(character, TOPICS if invents else (), seed)
    described = {picture.name: _caption(picture.name) for picture in character.pictures if picture.caption is None}
    requests = [*(r for r, _, _ in reworded), *(r for r, _, _ in asked), *visits, *described.values()]
    written = dict(zip(requests, complete(requests), strict=True))
    system = TextPart(role="system", text=grammar.system_prompt(character))
    drafts: list[Draft] = []
    for request, origin, reply in reworded:
        for line in _one_line(written[request]):
            drafts.append(Draft("roleplay_text", "train", origin, talk(system, line, reply), writer, source=reply))
    for request, fact, answer in asked:
        for question in _as_question(written[request]):
            parts = talk(introduction(character), question, answer)
            drafts.append(Draft("knowledge", "train", "question about a fact", parts, writer, source=fact))
    for name, request in described.items():
        drafts += _captioned(character, name, written[request], writer)
    lines = [line for request in visits for line in _one_line(written[request])]
    replies = complete([_reply(character, held, line, number, seed) for number, line in enumerate(lines)])
    for line, text in zip(lines, replies, strict=True):
        for reply in _one_line(text):
            drafts.append(Draft("roleplay_text", "train", "a new visit", talk(system, line, reply), writer))
    return drafts + (_requests(character, held, writer, complete, seed) if invents else [])


def _requests(character: Character, held: HeldOut, writer: WriterName, complete: Complete, seed: int) -> list[Draft]:
    """Requests for pictures, answered in the character's voice; the plan is known and not written."""
    asked = [r for r in picture_requests(character, held, seed, "in the voice") if r.split == "train"]
    replies = complete([_reply(character, held, r.line, number, seed) for number, r in enumerate(asked)])
    system = TextPart(role="system", text=grammar.system_prompt(character))
    drafts = []
    for request, text in zip(asked, replies, strict=True):
        for reply in _one_line(grammar.split_plan(text)[0]):
            parts = talk(system, request.line, grammar.with_plan(reply, request.plan))
            drafts.append(Draft("roleplay_request", "train", request.origin, parts, writer))
    return drafts


def _one_line(text: str) -> list[str]:
    """The first line of an answer without quotes and speaker, or nothing."""
    line = next((line.strip() for line in text.split("\n") if line.strip()), "")
    line = re.sub(r"^(?:(?:user|visitor|you|question|answer|q|a)\s*:|\d+[.)])\s+", "", line, flags=re.IGNORECASE)
    line = line.strip("\"'“” ")
    return [line] if line else []


def _as_question(text: str) -> list[str]:
    """A line that is a question to the character; the first person of the writer is not one."""
    return [line for line in _one_line(text) if line.endswith("?") and not re.search(r"\b(?:I|my|me)\b", line)]


def _rewordings(character: Character, held: HeldOut) -> Iterator[tuple[Request, str, str]]:
    """For each trained dialogue of one exchange without picture: the request, the origin, the reply that stays."""
    for dialogue in held.trained(character):
        if len(dialogue.turns) != 2 or dialogue.turns[1].image is not None:
            continue
        line, reply = dialogue.turns[0].text, dialogue.turns[1].text
        messages = (
            ("system", "You say the same thing in other words."),
            ("user", "What do you do for a living?"), ("assistant", "Which work do you earn your money with?"),
            ("user", "Is it raining outside?"), ("assistant", "Would I get wet if I went out now?"),
            ("user", line),
        )  # fmt: skip
        yield Request("reword", messages), f"{dialogue.origin} reworded", reply


def _questions(character: Character) -> Iterator[tuple[Request, str, str]]:
    """For each sentence that the user wrote about the character: the request, the sentence, the answer."""
    told = [*character.facts, *sentences(character.persona), *sentences(character.appearance)]
    for fact in dict.fromkeys(sentence for sentence in told if 4 <= len(sentence.split()) <= 30):
        messages = (
            ("system", "You write the question that a sentence answers."),
            ("user", "Tom keeps three goats behind his house."), ("assistant", "Which animals do you keep, Tom?"),
            ("user", "Ada learned to swim in a cold lake."), ("assistant", "Where did you learn to swim, Ada?"),
            ("user", ended(fact)),
        )  # fmt: skip
        answer = first_person(fact, character.name) or ended(fact)
        yield Request("ask", messages, max_tokens=32), fact, answer


def _visits(character: Character, topics: Sequence[str], seed: int) -> list[Request]:
    """For each topic: what a visitor might say."""
    own = [turn.text for dialogue in character.dialogues for turn in dialogue.turns[:1] if turn.role == "user"]
    chooser = random.Random(f"{seed} visits")
    requests = []
    for topic in topics:
        shown = chooser.sample(own, min(2, len(own)))
        examples = [pair for line in shown for pair in (("user", "What could a visitor say?"), ("assistant", line))]
        asked = ("user", f"What could a visitor say to {character.name} about {topic}?")
        messages = (
            ("system", f"You write one line that a visitor says to {grammar.who(character)}."),
            *examples,
            asked,
        )
        requests.append(Request("visit", messages, max_tokens=32))
    return requests


def _reply(character: Character, held: HeldOut, line: str, number: int, seed: int) -> Request:
    """The character's answer to a new line, after examples of how it speaks."""
    known = [dialogue for dialogue in held.trained(character) if len(dialogue.turns) == 2]
    chooser = random.Random(f"{seed} reply {number}")
    messages: list[tuple[str, str]] = [("system", grammar.system_prompt(character))]
    for dialogue in chooser.sample(known, min(EXAMPLES, len(known))):
        messages += [("user", dialogue.turns[0].text), ("assistant", dialogue.turns[1].text)]
    return Request("reply", (*messages, ("user", line)), max_tokens=80)


def _caption(name: str) -> Request:
    return Request("caption", (("user", grammar.DESCRIBE),), image=name, max_tokens=40)


def _captioned(character: Character, name: str, text: str, writer: WriterName) -> Iterable[Draft]:
    """A caption for a picture that has none, to draw it and to describe it."""
    for line in _one_line(text):
        caption = grammar.caption_with_name(character, re.sub(r"^an? [\w ]+?,\s*", "", line))
        draw, look = ImagePart(image=name, use="draw", loss=True), ImagePart(image=name, use="look")
        yield Draft(
            "text_to_image", "train", f"picture {name} described", (TextPart(role=None, text=caption), draw), writer
        )
        asked = TextPart(role="user", text=grammar.DESCRIBE), TextPart(role="assistant", text=f"{caption}.", loss=True)
        yield Draft("vqa", "train", f"picture {name} described", (look, *asked), writer)
