"""The published table on a release like RoleScape: nothing is trained, trained characters are asked and drawn.

What of the table needs a judge that is a language model (memorization, personality) is answered and measured without
one: whether the replies stay in character and leave the user's part to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charforge import grammar
from charforge.bases.drawing import draw_pixels
from charforge.bundle import read_bundle
from charforge.character import Character, load_picture
from charforge.chat.session import Session, open_character
from charforge.errors import InputError
from charforge.evaluate.forgetting import text_rows
from charforge.evaluate.identity import likeness
from charforge.evaluate.intervals import Series
from charforge.evaluate.judging import Aspect, Case, profile_of
from charforge.evaluate.knowledge import calibrated_accuracy, with_abstention
from charforge.evaluate.measure import is_run
from charforge.evaluate.names import wrong_name
from charforge.evaluate.questions import Choice, choices_picked, choices_said, shuffled
from charforge.evaluate.release_items import renamed_character, renamed_release, shortened, without_leaks
from charforge.evaluate.replies import Conversation, Turn, answered
from charforge.evaluate.rolescape import Line, Release
from charforge.evaluate.voice import breaks_character, chrf, perplexity, speaks_for_user, wordless
from charforge.expand import Pair, read_pairs
from charforge.judges.copies import copied, copy_marks
from charforge.judges.encoders import Encoder, encoded
from charforge.judges.likeness import FEWEST_REFERENCES, calibrate
from charforge.low_rank import acting
from charforge.pixels import to_pixels
from charforge.sample import Sample

SEED = 50_000
Report = Callable[[int, int], None]
Table = dict[str, Series]
STATES = ("characters", "bare", "names_replaced", "names_replaced_bare")
"""The tables: with the adapter, without it, and both again with an invented name in place of the character's."""


@dataclass(frozen=True)
class Subject:
    """A trained character that is not loaded yet. ``pairs`` are those that its run trained on; None for a bundle, which
    has none."""

    path: Path
    bundle: Path
    name: str
    pairs: list[Pair] | None


def find_subject(path: Path) -> Subject:
    """A run folder or a bundle. Raises InputError for anything else, and for a run whose bundle was moved away."""
    pairs, bundle = None, path
    if is_run(path):
        bundles = sorted(path.glob("*.charx"))
        if not bundles:
            raise InputError(f"{path} has no bundle in it any more: name the .charx file instead of the run")
        bundle, pairs = bundles[0], read_pairs(path / "pairs" / "pairs.jsonl")
    return Subject(path, bundle, read_bundle(bundle).manifest.character.name, pairs)


def open_subject(subject: Subject, device: str | None, beside: Session | None) -> Session:
    """The character on its base, which is that of ``beside`` where they have the same."""
    same = beside is not None and (read_bundle(subject.bundle).manifest.base.content_hash == beside.base.content_hash)
    return open_character(subject.bundle, device=device, beside=beside if same else None)


def matched(subjects: Sequence[Subject], releases: Sequence[Release]) -> list[Release]:
    """The character of its name for each subject. Raises InputError where one has none, or two have the same."""
    by_name = {_key(called): release for release in releases for called in (release.folder, release.name)}
    found: list[Release] = []
    for subject in subjects:
        release = by_name.get(_key(subject.name))
        if release is None:
            known = ", ".join(release.name for release in releases)
            raise InputError(f"{subject.path} is {subject.name}, who is not in the benchmark; there are {known}")
        if release in found:
            raise InputError(f"{subject.path} is a second {release.name}: name one run or bundle of a character")
        found.append(release)
    return found


def _key(name: str) -> str:
    return " ".join(name.split("-")[-1].replace("_", " ").casefold().split())


@dataclass(frozen=True)
class Benchmarked:
    """The tables of one character by state, and how many items of each kind were leaked."""

    name: str
    parsed: dict[str, int]
    leaked: dict[str, int]
    tables: dict[str, Table]
    cases: dict[str, list[Case]]
    """The replies of each state that a judge could mark."""


def benchmark_character(
    session: Session, pairs: list[Pair] | None, release: Release, others: Iterable[Release], encoder: Encoder,
    each: int, quick: bool, report: Report, judged: bool = False,
) -> Benchmarked:  # fmt: skip
    """All four tables of one character; ``each`` pictures of each prompt. ``pairs`` are what it was trained on, if that
    is known; ``others`` lend the questions that it cannot answer. ``quick``: see
    :func:`charforge.evaluate.release_items.shortened`, and pictures are not drawn under another name. ``judged``: a
    judge will be asked."""
    kept, leaked = without_leaks(release, pairs)
    asked_of = shortened(kept, judged) if quick else kept
    strangers = [choice for other in others for choice in other.knowledge]
    tables, cases = {}, {}
    total = len(STATES) * (len(release.captions) + len(release.scenes))
    for number, state in enumerate(STATES):
        character, items = session.character, asked_of
        if state.startswith("names_replaced"):
            character, items = renamed_character(character, release), renamed_release(asked_of)
        acts: AbstractContextManager[Any] = acting() if state.endswith("bare") else session.acts()
        with acts:
            asked = _Asked(session, character, items, strangers, encoder, each)
            own_name = not state.startswith("names_replaced")
            drawn = partial(_count, iter(range(number * total // len(STATES) + 1, total + 1)), total, report)
            spoken = asked.talk() if own_name else Spoken({}, [])
            tables[state] = asked.table(own_name or not quick, drawn) | spoken.table
            cases[state] = spoken.cases
    return Benchmarked(release.name, release.parsed(), leaked, tables, cases)


def _count(numbers: Iterator[int], total: int, report: Report) -> None:
    report(next(numbers), total)


@dataclass(frozen=True)
class Spoken:
    """Measures of sampled replies, and those of them that a judge could mark."""

    table: Table
    cases: list[Case]


@dataclass(frozen=True)
class _Asked:
    """One state of one character before the items of the release."""

    session: Session
    character: Character
    release: Release
    strangers: Sequence[Choice]
    encoder: Encoder
    each: int

    def table(self, draws: bool, drawn: Callable[[], None]) -> Table:
        """Every measure but those of :meth:`talk`."""
        found = {**self.knowledge(), **self.looks(), **self.dialogue()}
        if draws and self.release.test_pictures:
            found |= self.pictures(drawn)
        return found

    def knowledge(self) -> Table:
        """``knowledge``: multiple choice after "You are NAME, a NOUN."; ``calibrated``: with "I do not know." as one
        more option, also asked about the other characters."""
        choices = shuffled(self.release.knowledge)
        if not choices:
            return {}
        told = (self.session.base.model.text(grammar.introduction(self.character), "system"),)
        picked = choices_picked(self.session.base, [told] * len(choices), choices)
        found = {"knowledge": _right(choices, picked)}
        if self.strangers:
            asked = [*with_abstention(choices, right=False), *with_abstention(shuffled(self.strangers), right=True)]
            said = choices_said(self.session.base, [told] * len(asked), asked)
            kinds = [1.0] * len(choices) + [0.0] * len(self.strangers)
            right = [float(pick == choice.right) for pick, choice in zip(said, asked, strict=True)]
            rows = np.array(list(zip(kinds, right, strict=True)))
            found["calibrated"] = Series(tuple(one.question for one in asked), rows, calibrated_accuracy)
        return found

    def looks(self) -> Table:
        """``vqa``: multiple choice about the training pictures."""
        looks = [look for look in self.release.looks if look.image in self.release.train_pictures]
        if not looks:
            return {}
        model = self.session.base.model
        seen = {
            image: model.look(load_picture(self.release.train_pictures[image]))
            for image in dict.fromkeys(look.image for look in looks)
        }
        choices = shuffled([look.choice for look in looks])
        picked = choices_picked(self.session.base, [(seen[look.image],) for look in looks], choices)
        return {"vqa": _right(choices, picked)}

    def dialogue(self) -> Table:
        """``dialogue_perplexity`` of what the character said in the test conversations."""
        if not self.release.dialogues:
            return {}
        rows = text_rows(self.session.base.model, [self.said(line) for line in self.release.dialogues])
        names = tuple(line.user for line in self.release.dialogues)
        return {"dialogue_perplexity": Series(names, rows, perplexity)}

    def talk(self) -> Spoken:
        """``dialogue_chrf`` of sampled replies against those of the test; of all replies, also to the prompts about
        memory and personality, whether they stay in character and speak for nobody else."""
        lines = self.release.dialogues
        prompts = [*self.release.memorization, *self.release.personality]
        asked = [self.conversation(text) for text in (*(line.user for line in lines), *prompts)]
        if not asked:
            return Spoken({}, [])
        model, own = self.session.base.model, f"{self.character.persona} {self.character.voice}"
        replies = [grammar.split_plan(raw)[0] for raw in answered(model, asked, self.session.settings)]
        names, called = tuple(one.name for one in asked), self.character.name
        misnamed = [wrong_name(reply, called, own, one.heard) for reply, one in zip(replies, asked, strict=True)]
        found = {
            "breaks_character": Series(
                names, np.array([float(breaks_character(reply, own.lower(), called)) for reply in replies])
            ),
            "wordless": Series(names, np.array([float(wordless(reply)) for reply in replies])),
            "wrong_names": Series(names, np.array([float(called) for called in misnamed])),
            "speaks_for_user": Series(names, np.array([float(speaks_for_user(reply)) for reply in replies])),
        }
        if lines:
            close = [chrf(reply, line.reply) for reply, line in zip(replies, lines, strict=False)]
            found["dialogue_chrf"] = Series(names[: len(lines)], np.array(close))
        profile = self.release.profile or profile_of(self.character)
        aspects: list[Aspect] = ["memorization"] * len(self.release.memorization)
        aspects += ["personality"] * len(self.release.personality)
        cases = [
            Case(aspect, called, profile, prompt, reply)
            for aspect, prompt, reply in zip(aspects, prompts, replies[len(lines) :], strict=True)
        ]
        return Spoken(found, cases)

    def pictures(self, drawn: Callable[[], None]) -> Table:
        """Of pictures from the test captions (``t2i_``) and from replies to the test conversations (``roleplay_``): the
        likeness to the test pictures, and beside it the share of copies of training pictures. ``real_identity``: what
        the training pictures themselves score, the ceiling.
        """
        own = [_pixels(path) for path in self.release.train_pictures.values()]
        train = encoded(self.encoder.encode, own)
        test = encoded(self.encoder.encode, [_pixels(path) for path in self.release.test_pictures.values()])
        marks = copy_marks(calibrate(train), own) if len(train) >= FEWEST_REFERENCES else None
        best, _ = likeness(train, test)
        found = {"real_identity": Series(tuple(self.release.train_pictures), best.numpy())}
        for kind, prompts in (("t2i", self.captions()), ("roleplay", self.replied())):
            pictures, names = [], []
            for number, prompt in enumerate(prompts):
                seeds = [SEED + number * self.each + index for index in range(self.each)]
                pictures.append(draw_pixels(self.session.base.model, [prompt] * self.each, seeds))
                names += [f"{prompt} ({index + 1})" for index in range(self.each)]
                drawn()
            if pictures:
                every = torch.cat(pictures)
                features = self.encoder.encode(every).cpu()
                found[f"{kind}_identity"] = Series(tuple(names), likeness(features, test)[0].numpy())
                if marks is not None:
                    copies = copied(every, likeness(features, train)[0], marks)
                    found[f"{kind}_copy_rate"] = Series(tuple(names), copies.float().numpy())
        return found

    def captions(self) -> list[str]:
        """The test captions as prompts."""
        return [grammar.caption_with_name(self.character, text) for text in self.release.captions.values()]

    def replied(self) -> list[str]:
        """What is drawn of a reply to each of the test's conversations: its plan if it has one, and its words."""
        asked = [self.conversation(line.user) for line in self.release.scenes]
        model = self.session.base.model
        replies = answered(model, asked, self.session.settings) if asked else []
        parts = [grammar.split_plan(raw) for raw in replies]
        return [grammar.picture_prompt(self.character, plan or "", text) for text, plan in parts]

    def conversation(self, line: str) -> Conversation:
        """A visitor's line to the character."""
        return Conversation(line, (Turn("system", grammar.system_prompt(self.character)), Turn("user", line)))

    def said(self, line: Line) -> Sample:
        """A conversation of the test, its reply supervised."""
        text = self.session.base.model.text
        system = text(grammar.system_prompt(self.character), "system")
        return (system, text(line.user, "user"), text(line.reply, "assistant", loss=True))


def _pixels(path: Path) -> Tensor:
    image = load_picture(path)
    return to_pixels(image, image.size)


def _right(choices: Sequence[Choice], picked: Sequence[int]) -> Series:
    right = [float(pick == choice.right) for pick, choice in zip(picked, choices, strict=True)]
    return Series(tuple(choice.question for choice in choices), np.array(right))


def as_json(found: Sequence[Benchmarked], encoder: str, each: int) -> dict[str, Any]:
    """The tables with intervals: ``characters`` (with the adapter) and the others of ``STATES``, each
    {NAME: {METRIC: {value, low, high, n}}}; and what was parsed and left out."""
    tables = {state: {one.name: _with_counts(one.tables[state]) for one in found} for state in STATES}
    items = {
        one.name: {kind: {"parsed": count, "leaked": one.leaked.get(kind, 0)} for kind, count in one.parsed.items()}
        for one in found
    }
    return {"name": "rolescape", "encoder": encoder, "pictures_of_a_prompt": each, "items": items, **tables}


def _with_counts(table: Table) -> dict[str, dict[str, float]]:
    return {metric: {**series.interval(), "n": len(series.rows)} for metric, series in table.items()}
