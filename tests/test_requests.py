"""Asked for a picture: what is asked, what the plan says, how a voice answers, and how that is measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model

from charforge import grammar
from charforge.character import Character, read_character
from charforge.chat.replies import sample_replies
from charforge.evaluate.requests import asked_for, held_out_requests, request_values, share_planned
from charforge.expand import expand
from charforge.expand.habits import Habits, habits, voiced
from charforge.expand.holdout import hold_out
from charforge.expand.requests import PictureRequest, picture_requests
from charforge.expand.scenes import scene_details
from charforge.families.bagel.splits import TextSplit
from charforge.settings import ChatSettings

WREN = Path(__file__).parent.parent / "examples" / "wren"


@pytest.fixture(scope="module")
def wren() -> Character:
    return read_character(WREN)


def requests_of(character: Character, seed: int = 0, salt: str = "") -> list[PictureRequest]:
    return picture_requests(character, hold_out(character, seed), seed, salt)


# the voice


def test_habits_are_what_a_voice_says_again_and_again(wren: Character) -> None:
    replies = [turn.text for dialogue in wren.dialogues for turn in dialogue.turns if turn.role == "character"]
    assert habits(replies) == Habits("By my left spanner", "apprentice")
    assert habits(replies[:2]) == Habits()
    assert habits(["I like it, too.", "Me, too.", "They know, too."]) == Habits()


def test_a_line_is_said_with_the_habits() -> None:
    own = Habits("By my left spanner", "apprentice")
    assert voiced("here I am", own, opened=True) == "By my left spanner, here I am, apprentice."
    assert voiced("here I am", own, opened=False) == "Here I am, apprentice."
    assert voiced("here I am", Habits(), opened=True) == "Here I am."


@given(st.lists(st.text(max_size=60), max_size=6))
def test_no_reply_breaks_the_habits(replies: list[str]) -> None:
    own = habits(replies * 3)
    for phrase in (own.opening, own.address):
        assert not phrase or any(phrase in reply for reply in replies)


# the requests


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_plan_says_what_was_asked_and_nothing_else(wren: Character, seed: int) -> None:
    found = requests_of(wren, seed)
    assert found == requests_of(wren, seed)
    named = [request for request in found if not request.line.endswith(("of you.", "see you?", "of yourself."))]
    assert len(named) > 40
    for request in named:
        lead, *details = request.plan.removeprefix("Wren, ").split(", ")
        assert lead == "a voxel person" and details
        assert ", ".join(details) in request.line
        assert "\n" not in request.reply and grammar.split_plan(request.reply) == (request.reply, None)


def test_just_any_picture_is_one_of_the_characters_own(wren: Character) -> None:
    held = hold_out(wren, 0)
    own = {grammar.short_caption(wren, p.caption or "") for p in wren.pictures if p.name != held.picture}
    plain = [
        request for request in requests_of(wren) if request.line in ("Send me a picture of you.", "Can I see you?")
    ]
    assert len(plain) == 2 and all(request.plan in own for request in plain)


def test_held_out_requests_have_scenes_and_words_of_their_own(wren: Character) -> None:
    found = requests_of(wren)
    opening = {
        split: {" ".join(r.line.split()[:4]) for r in found if r.split == split} for split in ("train", "held_out")
    }
    assert len(opening["held_out"]) == 3 and not opening["train"] & opening["held_out"]
    plans = {split: {r.plan for r in found if r.split == split} for split in ("train", "held_out")}
    assert len(plans["held_out"]) >= 12
    scenes = scene_details(wren, 0)["held_out"]
    for plan in plans["held_out"]:
        details = plan.split(", ")[2:]
        assert any(set(details) <= set(scene.values()) for scene in scenes)


def test_the_held_out_picture_is_not_asked_for(wren: Character) -> None:
    held = hold_out(wren, 0)
    assert held.picture is not None
    assert not any(f"picture {held.picture} " in request.origin for request in requests_of(wren))


def test_another_salt_asks_for_other_details(wren: Character) -> None:
    assert {r.line for r in requests_of(wren)} != {r.line for r in requests_of(wren, salt="again")}


def test_pictures_without_captions_can_be_asked_for_in_new_scenes(tmp_path: Path) -> None:
    pip = read_character(make_folder(tmp_path / "pip"))
    bare = dataclasses.replace(pip, pictures=tuple(dataclasses.replace(p, caption=None) for p in pip.pictures))
    found = requests_of(bare)
    assert found and all("scene" in request.origin for request in found)


# measured


def test_the_share_of_what_was_asked_that_is_planned(wren: Character) -> None:
    held = held_out_requests(expand(wren).pairs)
    assert len(held) >= 12
    pair = next(pair for pair in held if len(asked_for(pair)) == 3)
    one, other, last = asked_for(pair)
    assert share_planned(pair, pair.texts("assistant")[-1]) == 1.0
    assert share_planned(pair, f"Here.\n[picture: Wren, a voxel person, {last}, {one}") == pytest.approx(2 / 3)
    edited = pair.model_copy(update={"parts": pair.parts[1:]})
    assert held_out_requests([pair, edited]) == [pair]
    assert share_planned(pair, f"I am {one}, {other}, {last}.") == 0.0


def test_a_model_that_knows_nothing_plans_nothing(wren: Character) -> None:
    held = held_out_requests(expand(wren).pairs)[:3]
    settings = ChatSettings(max_tokens=4)
    assert request_values(tiny_model(), held, settings).tolist() == [0.0, 0.0, 0.0]


def test_replies_side_by_side_are_those_of_each_alone() -> None:
    model, settings = tiny_model(), ChatSettings(temperature=0, repetition_penalty=1.3, max_tokens=6)
    conversations = [[TextSplit((5, 6, 7, 8)), TextSplit((9,))], [TextSplit((11,)), TextSplit((12, 13, 14))]]
    with torch.no_grad():
        together = sample_replies(model, conversations, settings, 0)
        alone = [sample_replies(model, [conversation], settings, 0)[0] for conversation in conversations]
    assert together == alone and together[0] != together[1]
