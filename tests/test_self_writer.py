"""The embedded base as writer and judge, and as the one that is asked keyed questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import drawing

from charforge.bases.base import Base, load_base
from charforge.errors import InputError
from charforge.evaluate.questions import balanced_accuracy, choices_right, read_choices, yes_no_right
from charforge.expand import ImagePart, Pair, TextPart
from charforge.expand.asking import Request
from charforge.expand.kept import Kept
from charforge.expand.self_writer import SelfWriter, batches, likelihood_judge
from charforge.likelihood import mean_log_likelihood
from charforge.replay.shipped_pictures import own_captions
from charforge.train.dataset import prepared_strangers

ASK = Request("knowledge", (("user", "Write one question about a lighthouse."),), max_tokens=12)
OTHER = Request("knowledge", (("user", "Write one question about a kettle and the sea."),), max_tokens=12)
LOOK = Request("looks", (("user", "What does the picture show?"),), image="01", max_tokens=12)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("mini")


def test_it_writes_the_same_again_and_asks_nothing_twice(base: Base, tmp_path: Path) -> None:
    pictures = {"01": base.model.prepare_picture(drawing(1))}
    told: list[tuple[int, int]] = []

    def writer(file: str) -> SelfWriter:
        return SelfWriter(base, Kept(tmp_path / file, "me"), pictures, 0, lambda done, of: told.append((done, of)))

    texts = writer("a")([ASK, OTHER, LOOK, ASK])
    assert texts[0] == texts[3] and all(texts)
    assert told == [(2, 3), (3, 3)]
    assert writer("b")([ASK, OTHER, LOOK]) == texts[:3]
    told.clear()
    assert writer("a")([OTHER, LOOK]) == texts[1:3] and told == []


def test_batches_hold_requests_of_one_form() -> None:
    many = [Request("knowledge", (("user", str(n)),)) for n in range(20)] + [LOOK]
    assert [len(batch) for batch in batches(many)] == [16, 4, 1]


def conversation(question: str, answer: str, source: str = "x") -> Pair:
    parts = (
        TextPart(role="system", text="You are Wren, a voxel person. Wren lives in an old lighthouse in Cog Harbour."),
        TextPart(role="user", text=question),
        TextPart(role="assistant", text=answer, loss=True),
    )
    return Pair(id=question, task="knowledge", split="train", origin="o", writer="self", source=source, parts=parts)


def test_a_question_that_does_not_fit_its_answer_is_told(base: Base) -> None:
    judge = likelihood_judge(base)
    good = conversation("Where in Cog Harbour do you live?", "I live in an old lighthouse in Cog Harbour.")
    bad = conversation("What is a reptile's favorite food?", "I live in an old lighthouse in Cog Harbour.")
    assert judge([good, bad]) == [None, "question does not fit the answer"]


def test_the_bases_own_pictures_can_be_looked_at(base: Base) -> None:
    parts = (
        ImagePart(image="base:3", use="look"),
        TextPart(role="user", text="Is this Wren?"),
        TextPart(role="assistant", text="No.", loss=True),
    )
    pair = Pair(id="a", task="vqa", split="train", origin="o", parts=parts)
    prepared = prepared_strangers(base, [pair])
    assert list(prepared) == ["base:3"] and prepared["base:3"].look.patches.shape == (64, 768)
    hits = yes_no_right(base, [pair], prepared)
    assert len(hits["No"]) == 1 and not hits["Yes"]
    unknown = pair.model_copy(update={"parts": (ImagePart(image="base:99999", use="look"), *parts[1:])})
    with pytest.raises(InputError, match="base:99999"):
        prepared_strangers(base, [unknown])
    assert len(own_captions("mini")) > 500 and own_captions("elsewhere") == {}


def test_always_yes_is_worth_a_half() -> None:
    assert balanced_accuracy({"Yes": [True] * 9, "No": [False]}) == 0.5
    assert balanced_accuracy({"Yes": [True, False], "No": []}) == 0.5


def test_several_likelihoods_in_one_pass_are_those_of_one_each(base: Base) -> None:
    model = base.model
    asked = model.text("Where do you live?", "user")
    samples = [(asked, model.text(text, "assistant", loss=True)) for text in ("By the sea.", "In an old lighthouse.")]
    with model.autocast():
        together = [values.mean().item() for values in model.log_likelihoods(samples)]
    assert together == pytest.approx([mean_log_likelihood(model, sample) for sample in samples], abs=0.02)
    assert together[0] != together[1]


def test_keyed_questions_are_picked_by_likelihood(base: Base, tmp_path: Path) -> None:
    item = {
        "question": "Where do you live?",
        "options": {"A": "In an old lighthouse", "B": "Xq zzv kkt"},
        "answer_key": "A",
    }
    (tmp_path / "q.json").write_text(json.dumps([item]))
    assert choices_right(base, "You live in an old lighthouse.", read_choices(tmp_path / "q.json")) == [True]
    (tmp_path / "q.json").write_text("{}")
    with pytest.raises(InputError, match="multiple-choice"):
        read_choices(tmp_path / "q.json")
