"""Questions about the base's own pictures: answered as the bare base answers, asked together in one step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import tiny_data, tiny_model, tiny_settings
from tiny_base import tiny_base

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.base import load_base
from charforge.bases.where import MINI
from charforge.families.bagel.splits import LookSplit
from charforge.families.bagel.unified import UnifiedBagel
from charforge.replay.drawings import prompts, replay_pictures, scenes
from charforge.replay.picture_answers import (
    _true_questions,
    answer_about_pictures,
    choose_answers,
    own_look,
    replay_looks,
)
from charforge.replay.shipped_pictures import own_captions
from charforge.train.samples import Dataset, step_batch


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))


def test_a_base_answers_about_its_own_pictures_once(monkeypatch: pytest.MonkeyPatch):
    base = tiny_base()
    first = replay_looks(base)
    assert len(first) == len(prompts())
    for asked in first:
        assert 2 <= len(asked) <= 4
        assert len({id(sample[0]) for sample in asked}) == 1 and isinstance(asked[0][0], LookSplit)
        assert [sample[2].loss for sample in asked] == [True] * len(asked)

    def again(*arguments: object) -> None:
        raise AssertionError("asked twice")

    monkeypatch.setattr(UnifiedBagel, "reply_logits", again)
    said = [[(s[1].ids, s[2].ids) for s in asked] for asked in first]
    assert [[(s[1].ids, s[2].ids) for s in asked] for asked in replay_looks(base)] == said


def test_the_answer_is_the_likelier_one_of_the_base_without_adapter():
    base = tiny_base()
    model, other = base.model, tiny_base()
    add_adapter(other.model.network, lora_config(model.shapes, 4, 8), 0)
    lines = answer_about_pictures(base)
    assert answer_about_pictures(other) == lines
    rows = [json.loads(line) for line in lines.splitlines()]
    assert {row["answer"] for row in rows} <= {"Yes.", "No."}
    assert len({(row["picture"], row["question"]) for row in rows}) == len(rows)
    own = replay_pictures(base)
    for row in rows[:6]:
        asked = [own_look(base, own[row["picture"]]), model.text(row["question"], "user")]
        values = {
            # the words of the answer alone, behind what every reply begins with
            answer: model.log_likelihoods([(*asked, model.text(answer, "assistant", loss=True))])[0]
            for answer in ("Yes.", "No.")
        }
        first = model.reply_prefix()
        assert values[row["answer"]][first] == max(value[first] for value in values.values())


def test_what_is_asked_is_what_was_drawn():
    told = _true_questions(tiny_base())
    assert len(told) == len(scenes())
    assert told[0] == ["Is this a young woman?", "Is it in a kitchen?"]
    assert told[-1] == ["Is this a garden?"]
    assert prompts()[0] == "a photo of a young woman in a kitchen" and prompts()[14] == "a photo of a city at night"


def test_all_questions_of_a_picture_are_asked_in_one_step():
    data = tiny_data()
    look = data.samples("looks")[0][0]
    said = [(look, *sample[1:]) for sample in data.samples("dialogues")]
    data = Dataset({**data.entries, "replay_looks": [tuple(said[:3]), (said[4],)]})
    steps = [step_batch(tiny_model(), data, tiny_settings(looks=0, replay_looks=1), 0, step)[0] for step in range(2)]
    counts = [sum(text[0] is look for text in texts) for texts in steps]
    assert sorted(counts) == [1, 3]
    assert not any(text[0] is look for text in step_batch(tiny_model(), data, tiny_settings(looks=0), 0, 0)[0])
    # they are asked while facts are studied too: that is where the base begins to say yes
    study = tiny_settings(replay_looks=2, study_share=0.5, study_looks=0)
    assert sum(text[0] is look for text in step_batch(tiny_model(), data, study, 0, 0)[0]) == 4


def test_mini_ships_the_answers_of_its_weights(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    rows = [json.loads(line) for line in (MINI / "replay_looks.jsonl").read_text("utf-8").splitlines()]
    assert len({row["picture"] for row in rows}) == 64 and len(rows) > 3 * 64
    assert 0.4 < sum(row["answer"] == "Yes." for row in rows) / len(rows) < 0.6
    base = load_base("mini")
    own = replay_pictures(base)
    assert max(row["picture"] for row in rows) < len(own_captions("mini")) == len(own)
    again = [choose_answers(base, own_look(base, own[row["picture"]]), [row["question"]])[0] for row in rows[:12]]
    # another processor's rounding may turn a close one
    assert sum(said == row["answer"] for said, row in zip(again, rows, strict=False)) >= 11
