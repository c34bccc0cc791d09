"""The measures of ``charforge eval``: each against closed forms, published implementations and planted faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import CONFIG
from tiny_base import tiny_base, tiny_data

from charforge.adapter.lora import add_adapter, lora_config
from charforge.bases.where import MINI
from charforge.character import Character
from charforge.evaluate.consistency import Promise, kept_promises, promises, shuffled_promises
from charforge.evaluate.forgetting import (
    CAPTIONS,
    QUESTIONS,
    forgotten,
    own_pictures,
    own_texts,
    picture_rows,
    text_rows,
)
from charforge.evaluate.identity import Scale, likeness, likeness_scale, nearest_other, separation
from charforge.evaluate.intervals import Series, interval, mean, paired_difference
from charforge.evaluate.knowledge import calibrated_accuracy, exam_of, with_abstention
from charforge.evaluate.prompt_tokens import prompt_series, tokens_saved, whole_card
from charforge.evaluate.questions import Choice, choices_picked, choices_said, shuffled
from charforge.evaluate.replies import held_out_conversations
from charforge.evaluate.variety import variety
from charforge.expand import ImagePart, Pair, TextPart, prompt_key
from charforge.judges.copies import copied, copy_marks
from charforge.judges.encoders import encoded
from charforge.judges.likeness import calibrate
from charforge.low_rank import adapter_off
from charforge.replay.answers import QUESTIONS as REPLAYED
from charforge.replay.drawings import prompts
from charforge.replay.shipped_pictures import own_captions
from charforge.sample import target_of

# intervals


def test_an_interval_holds_its_value_and_is_the_same_again():
    rows = np.random.default_rng(0).normal(3.0, 1.0, 40)
    told = interval(rows)
    assert told == interval(rows)
    assert told["value"] == pytest.approx(rows.mean(), abs=1e-4)
    assert told["low"] < told["value"] < told["high"]
    # the normal interval of a mean, which the bootstrap comes near at forty rows
    half = 1.96 * rows.std() / 40**0.5
    assert told["high"] - told["low"] == pytest.approx(2 * half, rel=0.15)
    assert interval(np.array([1.0, np.nan, 3.0]))["value"] == 2.0
    assert np.isnan(mean(np.array([np.nan])))
    with pytest.raises(ValueError, match="nothing to measure"):
        interval(np.array([]))


def test_a_paired_interval_is_narrow_where_the_same_things_are_hard_for_both():
    hard = np.random.default_rng(1).normal(0.0, 1.0, 30)
    names = tuple(map(str, range(30)))
    first = Series(names, hard)
    second = Series(tuple(reversed(names)), hard[::-1] + 0.1)
    told = paired_difference(first, second)
    assert told is not None
    assert told["value"] == told["low"] == told["high"] == 0.1 and told["n"] == 30
    apart = second.interval()
    assert apart["high"] - apart["low"] > 0.5
    assert paired_difference(first, Series(("another",), np.array([1.0]))) is None
    with pytest.raises(ValueError, match="2 names for 1 rows"):
        Series(("a", "b"), np.array([1.0]))


# identity, copies, variety


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows), dim=-1)


def test_the_best_reference_counts():
    best, which = likeness(unit((1.0, 0.1), (0.0, 2.0)), unit((1.0, 0.0), (0.6, 0.8)))
    assert which.tolist() == [0, 1]
    assert best.tolist() == pytest.approx([1 / 1.01**0.5, 0.8])
    assert nearest_other(unit((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))).tolist() == pytest.approx([0.5**0.5] * 3)
    with pytest.raises(ValueError, match="no other"):
        nearest_other(unit((1.0, 0.0)))


def stripes(seed: int, count: int = 4, side: int = 64) -> list[torch.Tensor]:
    """Fine patterns of one kind: what 16 by 16 pixels cannot hold."""
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.rand(3, 1, 16, generator=generator).repeat(1, side, side // 16).sign() * 0.0
    pattern = (torch.arange(side) % 2 * 2.0 - 1).expand(3, side, side) * torch.rand(3, 1, 1, generator=generator)
    return [pattern + 0.05 * torch.randn(3, side, side, generator=generator) for _ in range(count)]


def fine(pictures: torch.Tensor) -> torch.Tensor:
    """An encoder of differences between neighbours, and a little of the whole."""
    rough = F.adaptive_avg_pool2d((pictures[..., 1:] - pictures[..., :-1]).abs(), 4).flatten(1)
    return F.normalize(torch.cat([rough, F.adaptive_avg_pool2d(pictures, 2).flatten(1) + 0.3], 1), dim=-1)


def test_likeness_is_told_between_the_pixels_and_the_real_pictures():
    own = stripes(0)
    scale = likeness_scale(fine, own)
    assert scale is not None
    assert scale.normalised(scale.floor) == 0 and scale.normalised(scale.ceiling) == 1
    assert scale.floor < scale.ceiling
    assert likeness_scale(fine, own[:2]) is None
    # an encoder to which all pictures are the same has no scale
    assert likeness_scale(lambda pictures: torch.ones(len(pictures), 1), own) is None
    assert Scale(0.5, 0.9).normalised(np.array([0.5, 0.7])).tolist() == pytest.approx([0.0, 0.5])


def test_separation_is_the_area_under_the_curve():
    own, others = torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0.5, 0.3])
    assert separation(own, others) == pytest.approx((2 + 2 + 0.5) / 6)
    assert separation(own, own) == pytest.approx(0.5)


def test_a_copy_is_nearer_than_any_two_pictures_are():
    own = list(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    known = calibrate(encoded(fine, own))
    marks = copy_marks(known, own)
    new = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    # one is the same picture to the encoder, one is not; one has the same pixels though it is dimmer
    pictures = torch.stack([new[0], new[1], 0.8 * own[2]])
    nearest = torch.tensor([known.copy + 0.01, known.copy - 0.01, known.copy - 0.01])
    assert copied(pictures, nearest, marks).tolist() == [True, False, True]
    # no training picture is a copy of another one
    assert nearest_other(marks.pixels).max() < marks.by_pixels


def test_variety_is_the_mean_distance_within_a_prompt():
    same, apart = unit((1.0, 0.0), (1.0, 0.0)), unit((1.0, 0.0), (0.0, 1.0))
    assert variety(torch.cat([same, apart]), 2).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        variety(same, 1)


# tokens of prompt


def test_the_shortest_prompt_that_speaks_as_well_as_the_card_counts():
    # of two lines: the bare base after the card, the adapter after a short and a long prompt
    def saved(*lines: tuple[float, float, float]) -> float:
        return tokens_saved(np.array(lines), 800, (10, 70))

    assert saved((20.0, 30.0, 15.0), (10.0, 5.0, 12.0)) == 730
    assert saved((20.0, 21.0, 15.0), (10.0, 9.0, 12.0)) == 790, "equal is enough"
    assert saved((20.0, 30.0, 21.0), (10.0, 5.0, 12.0)) == 0, "the card speaks better"


def test_what_the_card_holds_before_the_base_was_trained_on():
    base = tiny_base()
    pip = Character("Pip", "clay robot", "It paints .", "Says beep .", "Red hat .", ("It fears rain .",), "", "", "",
                    (), (), Path())  # fmt: skip
    said = [pair(number, "roleplay_text", f"Question {number} ?", f"Beep {number} .") for number in range(12)]
    held = [pair(90, "roleplay_text", "Held out ?", "Beep .", "held_out")]
    card = whole_card(base.model, pip, [*said, *held])
    assert card.turns[0].text == "You are Pip, a clay robot. It paints . Says beep . Red hat . It fears rain ."
    assert [turn.role for turn in card.turns[1:3]] == ["user", "assistant"]
    told = " ".join(turn.text for turn in card.turns)
    assert "Beep 7 ." in told and "Beep 8 ." not in told and "Held out" not in told


def test_the_bare_base_saves_nothing_that_its_own_prompt_does_not_hold():
    base = tiny_base()
    pip = Character("Pip", "clay robot", "It paints .", "", "", (), "", "", "", (), (), Path())
    pairs = [pair(1, "roleplay_text", "Who ?", "Beep ."), pair(2, "roleplay_text", "Where ?", "Here .", "held_out")]
    parameters = add_adapter(base.model.network, lora_config(CONFIG, 4, 8), 0)
    on, off = prompt_series(base.model, pip, pairs, 5)
    # an adapter that does nothing speaks as the bare base does
    assert on["voice_card"].rows == pytest.approx(off["voice_card"].rows, rel=1e-5)
    assert on["prompt_tokens_saved"].names == ("Where ?",)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    noise, same = prompt_series(base.model, pip, pairs, 5)
    assert same["voice_card"].rows == pytest.approx(off["voice_card"].rows, rel=1e-5)
    assert noise["prompt_tokens_saved"].rows[:, 1:] != pytest.approx(on["prompt_tokens_saved"].rows[:, 1:], rel=1e-2)
    assert prompt_series(base.model, pip, pairs[:1], 5) == ({}, {})


# knowledge


def test_neither_always_answering_nor_never_answering_is_calibrated():
    known, unknown = np.ones((10, 1)), np.zeros((5, 1))

    def score(right_known: float, right_unknown: float) -> float:
        rights = np.vstack([np.full_like(known, right_known), np.full_like(unknown, right_unknown)])
        return calibrated_accuracy(np.hstack([np.vstack([known, unknown]), rights]))

    assert score(1, 0) == score(0, 1) == 0.5
    assert score(1, 1) == 1.0 and score(0, 0) == 0.0


def pair(number: int, task: str, asked: str, said: str, split: str = "train") -> Pair:
    parts = (
        TextPart(role="system", text="You are Wren."),
        TextPart(role="user", text=asked),
        TextPart(role="assistant", text=said, loss=True),
    )
    return Pair(id=f"{task}-{number}", task=task, split=split, origin="test", parts=parts)


FACTS = [
    ("Where do you live?", "I live in a lighthouse."), ("What do you drink?", "I drink black tea."),
    ("Who is your rival?", "My rival is Doctor Plume."), ("What is your birthday?", "My birthday is in October."),
    ("Where does Wren live?", "Wren lives in a lighthouse."), ("Tell me something.", "I drink black tea."),
    ("Do you drink coffee?", "No, I drink black tea."),
]  # fmt: skip


def test_an_exam_asks_each_fact_once_and_what_no_pair_asks():
    refused = pair(0, "refusal", "What is my middle name?", "Nobody told me, apprentice.")
    pairs = [pair(number, "knowledge", *fact) for number, fact in enumerate(FACTS)] + [refused]
    exam = exam_of(pairs)
    assert exam is not None
    assert [one.question for one in exam.known] == [question for question, _ in FACTS[:4]]
    for one in exam.known:
        assert one.options[one.right] == dict(FACTS)[one.question] and "Nobody told me, apprentice." in one.options
    assert "What is my middle name?" not in [one.question for one in exam.unknown]
    assert all(one.options[one.right] == "Nobody told me, apprentice." for one in exam.unknown)
    assert exam == exam_of(pairs), "the same pairs give the same exam"
    assert exam_of(pairs[:2]) is None


def test_options_are_shuffled_and_nothing_else():
    choices = [Choice(f"question {number}?", ("a", "b", "c", "d"), 1) for number in range(200)]
    mixed = shuffled(choices)
    assert mixed == shuffled(choices)
    assert all(one.options[one.right] == "b" and sorted(one.options) == ["a", "b", "c", "d"] for one in mixed)
    places = np.bincount([one.right for one in mixed], minlength=4)
    assert places.min() > 30, "the right option stands everywhere"


def test_the_words_for_not_knowing_are_one_more_option():
    own = Choice("Where?", ("here", "there"), 1)
    (known,), (unknown,) = with_abstention([own], right=False), with_abstention([own], right=True)
    assert known.options == unknown.options == ("here", "there", "I do not know.")
    assert (known.right, unknown.right) == (1, 2)


def test_what_is_read_before_each_question_is_its_own():
    base = tiny_base()
    first, second = (base.model.text(text, "system") for text in ("Pip is in a forest", "Pip is wearing red"))
    choices = [Choice("Where is Pip ?", ("In a forest .", "In a desert ."), 0)] * 3
    for ask in (choices_picked, choices_said):
        together = ask(base, [(first,), (second,), (first,)], choices)
        alone = [ask(base, [(part,)], choices[:1])[0] for part in (first, second, first)]
        assert together == alone


# consistency, forgetting, conversations


def test_promises_are_read_from_the_plan_and_contradicted_by_other_plans():
    pip = Character("Pip", "clay robot", "", "", "", "", "", "", (), (), (), Path())
    made = promises(
        pip, ["Pip, smiling, wearing a red coat, in a forest", "Pip, frowning, on a beach", "soft lighting"]
    )
    assert made[0].shown == ("smiling", "wearing a red coat", "in a forest")
    assert set(made[0].not_shown) == {"frowning", "on a beach"}
    # nobody else's clothes are asked about where the plan says nothing of clothes
    assert "wearing a red coat" not in made[1].not_shown
    assert made[2].shown == ()
    assert shuffled_promises(made) == [made[1], made[2], made[0]]


def test_nothing_is_forgotten_while_the_adapter_does_nothing():
    model, data = tiny_base().model, tiny_data()
    texts, pictures = data.samples("replay_texts"), data.samples("replay_pictures")
    off = {"texts": text_rows(model, texts), "pictures": picture_rows(model, pictures)}
    parameters = add_adapter(model.network, lora_config(CONFIG, 4, 8), 0)
    on = {"texts": text_rows(model, texts), "pictures": picture_rows(model, pictures)}
    for name, rows in off.items():
        assert forgotten(np.hstack([rows, on[name]])) == pytest.approx(0, abs=1e-6), name
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    changed = forgotten(np.hstack([off["texts"], text_rows(model, texts)]))
    assert abs(changed) > 0.01, "an adapter of noise changes what is foreseen"
    assert forgotten(np.hstack([off["texts"], off["texts"] * [1.5, 1]])) == pytest.approx(0.5)
    with adapter_off(model.network):
        assert text_rows(model, texts) == pytest.approx(off["texts"], rel=1e-5)


def test_what_is_asked_about_forgetting_is_never_replayed():
    assert not {prompt_key(question) for question in QUESTIONS} & {prompt_key(question) for question in REPLAYED}
    assert not set(CAPTIONS) & {*prompts(), *own_captions("mini").values()}
    shipped = (MINI / "replay_texts.jsonl").read_text("utf-8")
    assert not [question for question in QUESTIONS if json.dumps(question) in shipped]


def test_the_bases_own_texts_and_pictures_are_its_own():
    model = tiny_base().model
    (first, *_), pictures = own_texts(model, 2), own_pictures(model, 1)
    assert len(first) == 2 and first[1].supervised > 0
    assert len(pictures) == 1 and target_of(pictures[0]) is not None
    assert own_texts(model, 0) == own_pictures(model, 0) == []


def test_pictures_that_show_what_was_said_score_differently_from_others():
    model = tiny_base().model
    forest, beach = ("in a forest",), ("on a beach",)
    made = [Promise("a", forest, beach), Promise("b", beach, forest), Promise("c", (), ())]
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    kept = kept_promises(model, pictures, made)
    # the first two ask the same two questions with the answers exchanged
    same = kept_promises(model, pictures[[0, 0, 2]], made)
    assert same[0] + same[1] == pytest.approx(1, abs=1e-5)
    assert kept[0] == pytest.approx(same[0], abs=1e-5)
    assert np.isnan(kept[2]), "nothing was promised"


def test_conversations_end_where_the_character_is_to_speak():
    held = pair(1, "roleplay_text", "Hello?", "Beep.\n[picture: Pip, smiling]", "held_out")
    drawn = (TextPart(role=None, text="Pip"), ImagePart(image="1", use="draw", loss=True))
    picture = Pair(id="p", task="text_to_image", split="held_out", origin="t", parts=drawn)
    (found,) = held_out_conversations([held, pair(2, "roleplay_text", "Who?", "Me."), picture])
    assert [(turn.role, turn.text) for turn in found.turns] == [("system", "You are Wren."), ("user", "Hello?")]
    assert (found.name, found.asked, found.reference) == ("Hello?", "Hello?", "Beep.")
