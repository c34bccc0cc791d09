"""From what a language model answers to pairs: asked in rounds, checked, asked once more, or dropped with its reason.

The model words and invents; what must be true is checked against the user's own words: an answer about a fact rests on
a sentence that stands in the profile to the letter, an answer about a picture uses the words of its caption, and a plan
says what was asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from charforge import grammar
from charforge.character import Character
from charforge.expand import choices
from charforge.expand.answers import (
    Conversation,
    Exchange,
    Known,
    NumberedReply,
    PicturedExchange,
    SceneIdea,
    Seen,
    parse,
)
from charforge.expand.asking import Complete, Request, ask, ask_again, examples_of, topics
from charforge.expand.borne_out import no_picture, not_in_caption, not_in_sentence, not_refused, quoted, told_of
from charforge.expand.drafts import Draft, introduction, talk
from charforge.expand.holdout import HeldOut
from charforge.expand.manners import bare
from charforge.expand.pairs import ImagePart, Part, TextPart, WriterName
from charforge.expand.refusals import IN_VOICE
from charforge.expand.requests import PictureRequest, picture_requests
from charforge.expand.scenes import Scene, scene_of
from charforge.settings import ExpandSettings

ITEMS = 5
"""Things asked for in one request: more are cut off or go in circles, fewer cost a prompt each."""
CONVERSATION_SHARE, PICTURED_SHARE = 0.25, 0.15
"""Of the dialogues: of several exchanges, and of those that end in the plan of a picture."""
REQUEST_SHARE = 0.2
"""Requests for pictures, beside the dialogues."""
SCENE_SHARE = 0.2
"""New scenes for the second stage, beside the dialogues."""
SENTENCES = 8
"""Of the profile in one request for questions."""
TOKENS = {
    "dialogues": 120, "conversations": 260, "pictures": 150, "requests": 80, "refusals": 80, "knowledge": 150,
    "looks": 90, "scenes": 180,
}  # fmt: skip
"""Of an answer, for each item that is asked for."""
Form = TypeVar("Form", bound=BaseModel)
Item = TypeVar("Item")


def in_parts(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    """The items in their order, ``size`` together, the last ones fewer."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


@dataclass(frozen=True)
class Unused:
    """A piece of an answer of which no pair was made: the text, or the whole answer, and the reason."""

    kind: str
    text: str
    reason: str


@dataclass
class Authored:
    """What a model wrote: drafts, scenes for the second stage, and what of it could not be used."""

    drafts: list[Draft] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)


@dataclass(frozen=True)
class _Asked(Generic[Form]):
    """A request, the form of the items that it asks for, and why one of them cannot be used, or None."""

    request: Request
    form: type[Form]
    unusable: Callable[[Form], str | None] = lambda item: None


@dataclass(frozen=True)
class _Task:
    """Everything that every question needs to know."""

    character: Character
    held: HeldOut
    settings: ExpandSettings
    system: str
    seed: int
    language: str
    writer: WriterName

    def prompt(self, kind: str, number: int, items: int, **values: object) -> Request:
        """One request for ``items`` things, with examples of its own."""
        chooser = random.Random(f"{self.seed} {kind} {number}")
        common = {
            "name": self.character.name,
            "about": self.system,
            "language": self.language,
            "examples": examples_of(self.held.trained(self.character), chooser),
        }
        return ask(kind, TOKENS[kind] * items, **{**common, **values})  # type: ignore[arg-type]


def write_authored(
    character: Character, held: HeldOut, writer: WriterName, complete: Complete, settings: ExpandSettings, seed: int,
    system: str, language: str = "English",
) -> Authored:  # fmt: skip
    """Everything a language model adds to the template's pairs, within the budgets of ``settings``.

    ``system`` is the character's system prompt, ``language`` the name of the language that everything is written in.
    The same arguments ask the same questions in the same order: what is kept is not asked again.
    """
    task = _Task(character, held, settings, system, seed, language, writer)
    made = Authored()
    for write in (_dialogues, _requests, _refusals, _knowledge, _looks, _scenes):
        write(task, complete, made)
    return made


def planned_requests(character: Character, held: HeldOut, settings: ExpandSettings, seed: int) -> list[Request]:
    """What would be asked at first, for what it would cost: without second tries."""
    asked: list[Request] = []

    def note(requests: Sequence[Request]) -> list[str]:
        asked.extend(requests)
        return [""] * len(requests)

    system = grammar.system_prompt(character)
    task = _Task(character, held, settings, system, seed, "English", "self")
    for write in (_dialogues, _requests, _refusals, _knowledge, _looks, _scenes):
        write(task, note, Authored())
    return [request for request in asked if len(request.messages) == 2]


def _answered(asked: Sequence[_Asked[Form]], complete: Complete, unused: list[Unused]) -> list[list[Form]]:
    """The usable items of each request. Where none is usable, the request is made once more."""
    texts = list(complete([one.request for one in asked]))
    found = [_read(text, one) for text, one in zip(texts, asked, strict=True)]
    empty = [n for n, (good, _) in enumerate(found) if not good]
    if empty:
        again = [ask_again(asked[n].request, texts[n], _complaint(found[n][1])) for n in empty]
        for n, text in zip(empty, complete(again), strict=True):
            good, bad = _read(text, asked[n])
            found[n] = (good, [*found[n][1], *bad])
    for _, bad in found:
        unused += bad
    return [good for good, _ in found]


def _read(text: str, asked: _Asked[Form]) -> tuple[list[Form], list[Unused]]:
    """The usable items of an answer, and the others."""
    parsed, kind = parse(text, asked.form), asked.request.kind
    good, bad = list[Form](), [Unused(kind, text, reason) for reason in parsed.problems]
    for item in parsed.items:
        if reason := asked.unusable(item):
            bad.append(Unused(kind, item.model_dump_json(), reason))
        else:
            good.append(item)
    return good, bad


def _complaint(bad: Sequence[Unused]) -> str:
    reason = bad[0].reason if bad else "there is nothing in the answer"
    return f"That cannot be used: {reason}."


# conversations


def _dialogues(task: _Task, complete: Complete, made: Authored) -> None:
    """New exchanges, conversations of several, and replies that come with the plan of a picture."""
    budget = task.settings.dialogues
    conversations, pictured = round(CONVERSATION_SHARE * budget), round(PICTURED_SHARE * budget)
    spread = topics(budget, random.Random(f"{task.seed} topics"))
    cut = budget - conversations - pictured
    single, many, shown = spread[:cut], spread[cut : cut + conversations], spread[cut + conversations :]
    system = TextPart(role="system", text=task.system)

    def asked(kind: str, about: Sequence[str], form: type[Form], **values: object) -> list[_Asked[Form]]:
        return [
            _Asked(task.prompt(kind, number, len(some), topics=some, **values), form)
            for number, some in enumerate(in_parts(about, ITEMS))
        ]

    def reply(text: str) -> str:
        return bare(grammar.split_plan(text)[0], task.character.name)

    for found in _answered(asked("dialogues", single, Exchange), complete, made.unused):
        for item in found:
            parts = talk(system, bare(item.visitor, task.character.name), reply(item.reply))
            made.drafts.append(Draft("roleplay_text", "train", "a new dialogue", parts, task.writer))
    for talks in _answered(asked("conversations", many, Conversation), complete, made.unused):
        for conversation in talks:
            turns: list[Part] = [system]
            for turn in conversation.turns:
                turns.append(TextPart(role="user", text=bare(turn.visitor, task.character.name)))
                turns.append(TextPart(role="assistant", text=reply(turn.reply), loss=True))
            made.drafts.append(Draft("roleplay_multi_turn", "train", "a new conversation", tuple(turns), task.writer))
    pictures = asked("pictures", shown, PicturedExchange, shown_picture="smiling, wearing a blue coat, in a garden")
    for replies in _answered([replace(one, unusable=no_picture) for one in pictures], complete, made.unused):
        for told in replies:
            plan = grammar.caption_with_name(task.character, told.picture)
            parts = talk(system, bare(told.visitor, task.character.name), grammar.with_plan(reply(told.reply), plan))
            made.drafts.append(Draft("roleplay_plan", "train", "a new dialogue with a picture", parts, task.writer))


def _numbered(
    task: _Task,
    complete: Complete,
    made: Authored,
    kind: str,
    lines: Sequence[str],
    unusable: Callable[[str], str | None] = lambda reply: None,
) -> list[str | None]:
    """A reply to each of the lines, None where there is no usable one."""
    parts = in_parts(lines, ITEMS)
    asked = [
        _Asked(task.prompt(kind, number, len(some), lines=some), NumberedReply, lambda item: unusable(item.reply))
        for number, some in enumerate(parts)
    ]
    replies: list[str | None] = []
    for some, found in zip(parts, _answered(asked, complete, made.unused), strict=True):
        said = {item.number: bare(grammar.split_plan(item.reply)[0], task.character.name) for item in found}
        replies += [said.get(number) for number in range(1, len(some) + 1)]
    return replies


def _requests(task: _Task, complete: Complete, made: Authored) -> None:
    """Requests for pictures, answered in the character's voice; the plan is known and not written."""
    most = round(REQUEST_SHARE * task.settings.dialogues)
    found = picture_requests(task.character, task.held, task.seed, "in the voice")
    asked = [request for request in found if request.split == "train"][:most]
    replies = _numbered(task, complete, made, "requests", [r.line for r in asked])
    system = TextPart(role="system", text=task.system)
    for request, reply in zip(asked, replies, strict=True):
        if reply:
            made.drafts.append(_requested(system, request, reply, task.writer))


def _requested(system: TextPart, request: PictureRequest, reply: str, writer: WriterName) -> Draft:
    parts = talk(system, request.line, grammar.with_plan(reply, request.plan))
    return Draft("roleplay_request", "train", request.origin, parts, writer)


def _refusals(task: _Task, complete: Complete, made: Authored) -> None:
    """What the character cannot know, said in its own voice."""
    replies = _numbered(task, complete, made, "refusals", IN_VOICE, not_refused)
    system = TextPart(role="system", text=task.system)
    for question, reply in zip(IN_VOICE, replies, strict=True):
        if reply:
            parts = talk(system, question, reply)
            made.drafts.append(Draft("refusal", "train", "what nobody told it", parts, task.writer))


# what is known


def _knowledge(task: _Task, complete: Complete, made: Authored) -> None:
    """Questions about the user's own sentences; each answer says no more than the sentence that it quotes."""
    known = told_of(task.character)
    if not known or not task.settings.knowledge:
        return
    parts = in_parts(known, SENTENCES)
    # every part as often as its share of the budget asks for
    each = -(-task.settings.knowledge // (len(parts) * ITEMS))
    system = introduction(task.character)
    asked_before: dict[int, list[str]] = {number: [] for number in range(len(parts))}
    for again in range(each):
        asked = [
            _Asked(
                task.prompt(
                    "knowledge", again * len(parts) + number, ITEMS,
                    lines=some, count=ITEMS, asked=tuple(asked_before[number]),
                ),
                Known,
                lambda item: not_in_sentence(item, known),
            )
            for number, some in enumerate(parts)
        ]  # fmt: skip
        found = _answered(asked, complete, made.unused)
        for number, items in enumerate(found):
            for item in items:
                asked_before[number].append(item.question)
                source = quoted(item.sentence, known) or ""
                parts_of = talk(system, item.question, item.answer)
                made.drafts.append(
                    Draft("knowledge", "train", "a question about a sentence", parts_of, task.writer, source)
                )
                if mixed := choices.with_options(
                    item.question, item.answer, item.wrong, f"{task.seed} {item.question}"
                ):
                    made.drafts.append(
                        Draft(
                            "knowledge", "train", "a choice about a sentence", talk(system, *mixed), task.writer, source
                        )
                    )


# pictures


def _looks(task: _Task, complete: Complete, made: Authored) -> None:
    """Questions about pictures that have a caption; answers use its words alone."""
    count = task.settings.looks_per_picture
    captions = [
        (picture.name, grammar.short_caption(task.character, picture.caption))
        for picture in task.character.pictures
        if picture.caption and picture.name != task.held.picture
    ]
    if not count or not captions:
        return
    asked_before: dict[str, list[str]] = {name: [] for name, _ in captions}
    for again in range(-(-count // (2 * ITEMS))):
        asked = [
            _Asked(
                task.prompt(
                    "looks", again * len(captions) + n, 2 * ITEMS,
                    caption=caption, count=2 * ITEMS, asked=tuple(asked_before[name]),
                ),
                Seen,
                lambda item, caption=caption: not_in_caption(item, caption),  # type: ignore[misc]
            )
            for n, (name, caption) in enumerate(captions)
        ]  # fmt: skip
        for (name, caption), found in zip(captions, _answered(asked, complete, made.unused), strict=True):
            for item in found:
                asked_before[name].append(item.question)
                made.drafts += _looked(task, name, caption, item)


def _looked(task: _Task, name: str, caption: str, item: Seen) -> list[Draft]:
    look = ImagePart(image=name, use="look")

    def draft(question: str, answer: str) -> Draft:
        asked = TextPart(role="user", text=question), TextPart(role="assistant", text=answer, loss=True)
        return Draft("vqa", "train", f"picture {name}", (look, *asked), task.writer, caption)

    made = [draft(item.question, item.answer)]
    # an option that the caption bears out is no wrong one
    wrong = [option for option in item.wrong if choices.new_words(option, caption)]
    if mixed := choices.with_options(item.question, item.answer, wrong, f"{task.seed} {name} {item.question}"):
        made.append(draft(*mixed))
    return made


def _scenes(task: _Task, complete: Complete, made: Authored) -> None:
    """New scenes that suit the character, each with questions whose answers are known."""
    if not task.settings.dialogues:
        return
    captions = [grammar.short_caption(task.character, p.caption) for p in task.character.pictures if p.caption][:6]
    asked = [
        _Asked(
            task.prompt("scenes", number, ITEMS, lines=captions, topics=[topic.split(" (")[0] for topic in some]),
            SceneIdea,
        )
        for number, some in enumerate(
            in_parts(
                topics(round(SCENE_SHARE * task.settings.dialogues), random.Random(f"{task.seed} scene topics")), ITEMS
            )
        )
    ]
    chooser = random.Random(f"{task.seed} authored scenes")
    seen: set[str] = set()
    for found in _answered(asked, complete, made.unused):
        for idea in found:
            scene = scene_of(
                task.character, [(d.kind, d.words, d.others) for d in idea.details], len(made.scenes), chooser
            )
            if scene is None or scene.prompt in seen:
                made.unused.append(
                    Unused("scenes", idea.model_dump_json(), "a detail has another form, or comes twice")
                )
                continue
            seen.add(scene.prompt)
            made.scenes.append(scene)
