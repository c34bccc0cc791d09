"""Questions about a base's own pictures with its own yes or no: training on one character must not make it say yes.

Whoever learns facts and requests by heart agrees more readily afterwards, also about pictures (docs/log.md,
2026-11-26). What is replayed is what the base answered before, right or wrong.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch

from charforge import grammar
from charforge.bases.base import Base
from charforge.bases.where import MINI
from charforge.expand.phrases import Phrase, phrases_of
from charforge.files import write_atomic
from charforge.likelihood import Question, answer_likelihoods
from charforge.pixels import to_image
from charforge.progress import counting
from charforge.replay.cache import cached_folder
from charforge.replay.drawings import replay_pictures, scenes
from charforge.replay.shipped_pictures import own_captions
from charforge.sample import Part, Sample, target_of

PICTURES = 64
QUESTIONS = 2
"""Of each picture: so many that its caption calls for, and as many of another picture's."""


@torch.no_grad()
def own_look(base: Base, drawn: Sample) -> Part:
    """A picture of the base's own as its vision tower sees it. ``drawn`` is a caption and what it drew."""
    target = target_of(drawn)
    assert target is not None
    return base.model.look(to_image(base.model.decode_target(target)))


def replay_looks(base: Base) -> list[list[Sample]]:
    """For each of some own pictures its questions with the bare base's answers; samples of one picture share it."""
    file = MINI / "replay_looks.jsonl" if base.name == "mini" else _ensure_answered(base)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    pictures = [list(asked) for _, asked in groupby(rows, key=itemgetter("picture"))]
    own, text = replay_pictures(base), base.model.text
    samples: list[list[Sample]] = []
    with counting("looking at the base's own pictures for replay") as report:
        for done, asked in enumerate(pictures):
            look = own_look(base, own[asked[0]["picture"]])
            samples.append(
                [(look, text(row["question"], "user"), text(row["answer"], "assistant", loss=True)) for row in asked]
            )
            report(done + 1, len(pictures))
    return samples


def answer_about_pictures(base: Base) -> str:
    """What :func:`replay_looks` reads: picture, question and the likelier answer of the bare base, a JSON a line."""
    own, true = replay_pictures(base), _true_questions(base)
    chooser, lines = random.Random("own looks"), []
    chosen = sorted(chooser.sample(range(len(true)), min(PICTURES, len(true))))
    with counting(f"{base.name} answers questions about its own pictures, once for all characters") as report:
        for done, number in enumerate(chosen):
            other = chooser.choice([true[index] for index in chosen if index != number])
            asked = [chooser.sample(phrases, min(QUESTIONS, len(phrases))) for phrases in (true[number], other)]
            questions = list(dict.fromkeys(asked[0] + asked[1]))
            answers = choose_answers(base, own_look(base, own[number]), questions)
            for question, answer in zip(questions, answers, strict=True):
                row = {"picture": number, "question": question, "answer": answer}
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
            report(done + 1, len(chosen))
    return "".join(lines)


def choose_answers(base: Base, look: Part, questions: Sequence[str]) -> list[str]:
    """ "Yes." or "No." to each question, by the first word of the reply."""
    answers = ("Yes.", "No.")
    asked = [Question(0, question, answers, first_word=True) for question in questions]
    told = answer_likelihoods(base.model, [(look,)], asked)
    return [answers[0] if yes.item() > no.item() else answers[1] for yes, no in told]


def _true_questions(base: Base) -> list[list[str]]:
    """For each own picture the questions to which its caption says yes."""
    captions = own_captions(base.name)
    if captions:
        return [[_ask_for(phrase) for phrase in _phrases(caption)] for caption in captions.values()]
    return [[grammar.is_this(who), *([grammar.is_it("it", where)] if where else [])] for _, who, where in scenes()]


def _phrases(caption: str) -> list[Phrase]:
    return phrases_of(grammar.split_caption(caption[0].lower() + caption[1:]))


def _ask_for(phrase: Phrase) -> str:
    return grammar.shows(phrase.text) if phrase.kind == "thing" else grammar.is_it("it", phrase.text)


def _ensure_answered(base: Base) -> Path:
    """The file of answers, answered first where there is none."""
    file = cached_folder(base) / "looks.jsonl"
    if not file.exists():
        write_atomic(file, answer_about_pictures(base))
    return file
