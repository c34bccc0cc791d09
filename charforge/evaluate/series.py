"""All measures of a run with the adapter as it is in the model, each with what it was measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from charforge import grammar
from charforge.bases.drawing import draw_pixels
from charforge.evaluate.consistency import kept_promises, promises
from charforge.evaluate.forgetting import text_rows
from charforge.evaluate.identity import nearest_other
from charforge.evaluate.intervals import Series
from charforge.evaluate.knowledge import calibrated_accuracy, exam_of
from charforge.evaluate.measure import Drawn, OpenRun, Seen, draw_scenes, per_scene, see
from charforge.evaluate.names import wrong_name
from charforge.evaluate.questions import choices_said
from charforge.evaluate.replies import Conversation, answered, asked_in, held_out_conversations
from charforge.evaluate.requests import request_replies, share_planned
from charforge.evaluate.voice import (
    breaks_character,
    chrf,
    distinct,
    perplexity,
    sameness,
    speaks_for_user,
    voice_distance,
    wordless,
)
from charforge.judges.encoders import encoded
from charforge.kinds import TALK

Report = Callable[[int, int], None]
CONSISTENCY_SEED = 95_000


@dataclass(frozen=True)
class Extent:
    """How much is measured: ``each`` pictures of the first ``scenes`` held-out scenes; ``replies`` to so many
    conversations, and to so many requests; so many ``promises`` are drawn; so many questions of an ``exam`` of each
    kind; ``others`` texts and pictures of the base's own, and as many held-out conversations after the whole card."""

    each: int
    scenes: int
    replies: int
    promises: int
    exam: int
    others: int

    @staticmethod
    def quick(each: int) -> Extent:
        """For a look: six scenes, six replies and eight questions of each kind, no drawing of replies,
        nothing about forgetting."""
        return Extent(each, 6, 6, 0, 8, 0)

    @staticmethod
    def full(each: int) -> Extent:
        """All scenes and questions."""
        return Extent(each, 10_000, 10_000, 8, 10_000, 12)


@dataclass(frozen=True)
class Replies:
    """What the character says to what no step has seen: requests for a picture come last."""

    asked: list[Conversation]
    raw: list[str]

    @property
    def shown(self) -> list[str]:
        """Without the plans of pictures."""
        return [grammar.split_plan(reply)[0] for reply in self.raw]


@dataclass(frozen=True)
class State:
    """One state of a run, the adapter on or off: its measures and what they were taken of."""

    series: dict[str, Series]
    drawn: Drawn
    seen: Seen
    replies: Replies


STEPS_BESIDE = 3
"""What :func:`measure_state` reports beside the scenes: replies, questions, promises."""


def measure_state(opened: OpenRun, extent: Extent, report: Report) -> State:
    """Talk, ask, draw, and measure it all. A measure that this run has nothing for is left out.

    ``report(steps done, in all)`` counts the scenes and ``STEPS_BESIDE``.
    """
    scenes = opened.scenes[: extent.scenes]
    total = len(scenes) + STEPS_BESIDE
    words = measure_words(opened, extent, lambda done: report(done, total))
    drawn = draw_scenes(opened.base, scenes, extent.each, lambda done, _: report(STEPS_BESIDE - 1 + done, total))
    state = with_pictures(opened, extent, words, drawn)
    report(total, total)
    return state


@dataclass(frozen=True)
class Words:
    """What was said and answered, and its measures."""

    series: dict[str, Series]
    replies: Replies


def measure_words(
    opened: OpenRun, extent: Extent, report: Callable[[int], None], known: Sequence[str] | None = None
) -> Words:
    """What needs no drawing; ``report`` counts two steps. ``known``: replies to all of the run's requests, where they
    need not be sampled again."""
    replies = reply_all(opened, extent.replies, known)
    series = text_series(opened, replies)
    report(1)
    series |= exam_series(opened, extent.exam)
    report(2)
    return Words(series, replies)


def with_pictures(opened: OpenRun, extent: Extent, words: Words, drawn: Drawn) -> State:
    """The measures of words and of drawn scenes together; replies are drawn here."""
    seen = see(opened.base, opened.judges, drawn, opened.real)
    prompts = tuple(scene.prompt for scene in drawn.scenes)
    series = {name: Series(prompts, rows) for name, rows in per_scene(seen, drawn.each).items()} | words.series
    if extent.promises:
        series |= consistency_series(opened, words.replies, extent.promises)
    return State(series, drawn, seen, words.replies)


def reply_all(opened: OpenRun, most: int, known: Sequence[str] | None = None) -> Replies:
    """A reply to each of the first ``most`` held-out conversations, then to each of as many held-out requests for a
    picture; to all of these where the replies are ``known``."""
    talk, requests = held_out_conversations(opened.pairs)[:most], opened.requests
    model = opened.base.model
    if known is None:
        requests = requests[:most]
        known = request_replies(model, requests, opened.chat)
    raw = [*answered(model, talk, opened.chat), *known]
    asked = [Conversation(f"request: {pair.texts('user')[-1]}", ()) for pair in requests]
    return Replies([*talk, *asked], raw)


def text_series(opened: OpenRun, replies: Replies) -> dict[str, Series]:
    """Measures of what is said: of the held-out conversations, of the replies to them, of the plans of requests."""
    series: dict[str, Series] = {}
    model, talked = opened.base.model, [one for one in replies.asked if one.turns]
    if opened.voice:
        held = [asked_in(pair) for pair in opened.pairs if pair.split == "held_out" and pair.task in TALK]
        series["voice"] = Series(tuple(held), text_rows(model, opened.voice), perplexity)
    # the replies may be to the first of the requests alone
    plans = list(zip(opened.requests, replies.raw[len(talked) :], strict=False))
    if plans:
        names = tuple(pair.texts("user")[-1] for pair, _ in plans)
        series["requests"] = Series(names, np.array([share_planned(pair, reply) for pair, reply in plans]))
    shown, names = replies.shown, tuple(one.name for one in replies.asked)
    if talked:
        own = own_lines(opened)
        closeness = [chrf(reply, one.reference) for reply, one in zip(shown, talked, strict=False)]
        series["chrf"] = Series(names[: len(talked)], np.array(closeness))
        if own:
            far = [voice_distance(reply, own) for reply in shown[: len(talked)]]
            series["voice_distance"] = Series(names[: len(talked)], np.array(far))
    if shown:
        said = own_words(opened)
        heard = [one.heard for one in replies.asked]
        series["distinct_2"] = Series(names, np.array([distinct(reply) for reply in shown]))
        series["speaks_for_user"] = Series(names, np.array([float(speaks_for_user(reply)) for reply in shown]))
        called = opened.character.name if opened.character is not None else ""
        series["wordless"] = Series(names, np.array([float(wordless(reply)) for reply in shown]))
        breaks = [float(breaks_character(reply, said.lower(), called)) for reply in shown]
        series["breaks_character"] = Series(names, np.array(breaks))
        if called:
            series["wrong_names"] = Series(names, _wrong_names(shown, called, said, heard))
    if len(shown) > 1:
        series["sameness"] = Series(names, sameness(shown))
    return series


def _wrong_names(said: Sequence[str], name: str, own: str, heard: Sequence[str]) -> np.ndarray:
    return np.array([float(wrong_name(reply, name, own, before)) for reply, before in zip(said, heard, strict=True)])


def own_words(opened: OpenRun) -> str:
    """What the character says in training, and what its files say of it."""
    character = opened.character
    about = "" if character is None else f"{character.persona} {character.voice}"
    return " ".join([*own_lines(opened), about])


def own_lines(opened: OpenRun) -> list[str]:
    """The character's own lines that were trained on, each once, without plans."""
    lines = [
        grammar.split_plan(pair.texts("assistant")[-1])[0]
        for pair in opened.pairs
        if pair.split == "train" and pair.task in TALK
    ]
    return list(dict.fromkeys(line for line in lines if line))


def exam_series(opened: OpenRun, most: int) -> dict[str, Series]:
    """Knowledge, and calibrated accuracy; nothing where the character has too few facts, or where its
    questions do not begin with who it is."""
    exam = exam_of(opened.pairs)
    system = [text for pair in opened.pairs if pair.task == "knowledge" for text in pair.texts("system")]
    if exam is None or not system:
        return {}
    known, unknown = exam.known[:most], exam.unknown[:most]
    before = (opened.base.model.text(system[0], "system"),)
    asked = [*known, *unknown]
    said = choices_said(opened.base, [before] * len(asked), asked)
    right = [pick == choice.right for pick, choice in zip(said, asked, strict=True)]
    names = tuple(choice.question for choice in asked)
    kinds = [1.0] * len(known) + [0.0] * len(unknown)
    rows = np.array(list(zip(kinds, map(float, right), strict=True)))
    return {
        "knowledge": Series(names[: len(known)], rows[: len(known), 1]),
        "calibrated": Series(names, rows, calibrated_accuracy),
    }


def consistency_series(opened: OpenRun, replies: Replies, most: int) -> dict[str, Series]:
    """Whether pictures show what their replies say: the first ``most`` replies with a plan are drawn.

    Nothing where no reply has a plan, or where the run's bundle, which says who the character is, was moved away.
    """
    character, model = opened.character, opened.base.model
    if character is None:
        return {}
    planned = [(grammar.split_plan(raw), one.name) for raw, one in zip(replies.raw, replies.asked, strict=True)]
    chosen = [(text, plan, name) for (text, plan), name in planned if plan][:most]
    if not chosen:
        return {}
    made = promises(character, [plan for _, plan, _ in chosen])
    prompts = [grammar.picture_prompt(character, plan, text) for text, plan, _ in chosen]
    pictures = draw_pixels(model, prompts, [CONSISTENCY_SEED + number for number in range(len(prompts))])
    return {"consistency": Series(tuple(name for *_, name in chosen), kept_promises(model, pictures, made))}


def ceilings(opened: OpenRun) -> dict[str, Series]:
    """The same measures of the real thing: the character's own pictures and its own held-out lines.

    A picture's likeness is that to the others of them, itself left out.
    """
    found: dict[str, Series] = {}
    real = opened.real
    if real is not None and len(real.trained) > 1:
        nearest = nearest_other(encoded(opened.judges.encoder.encode, real.trained)).numpy()
        found["identity"] = Series(real.names, nearest)
        if real.scale is not None:
            found["likeness"] = Series(real.names, real.scale.normalised(nearest))
    talk = [one for one in held_out_conversations(opened.pairs) if one.reference]
    lines, names = [one.reference for one in talk], tuple(one.name for one in talk)
    own = own_lines(opened)
    if lines and own:
        said = own_words(opened)
        found["voice_distance"] = Series(names, np.array([voice_distance(line, own) for line in lines]))
        found["distinct_2"] = Series(names, np.array([distinct(line) for line in lines]))
        found["speaks_for_user"] = Series(names, np.array([float(speaks_for_user(line)) for line in lines]))
        breaks = [float(breaks_character(line, said.lower())) for line in lines]
        found["breaks_character"] = Series(names, np.array(breaks))
        if opened.character is not None:
            heard = [one.heard for one in talk]
            found["wrong_names"] = Series(names, _wrong_names(lines, opened.character.name, said, heard))
    if len(lines) > 1:
        found["sameness"] = Series(names, sameness(lines))
    return found
