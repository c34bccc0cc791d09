"""Captions as a whole: what binds to words instead of the name is found, and good captions are left in peace."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from folders import CAPTIONS, make_folder
from laid_out import WREN, lay_out

from charforge.bases.can_draw import KIND_NOUN
from charforge.character import read_character
from charforge.character.judge_captions import (
    equal_captions,
    foreign_words,
    judge_captions,
    lasting_traits,
    shared_phrases,
    without_phrases,
)
from charforge.errors import Problem
from charforge.recipe import captions
from charforge.recipe.bench.unseen import Subject, subject

SUBJECTS = [subject(number) for number in range(20)]


def judged(tmp_path: Path, texts: Sequence[str]) -> list[Problem]:
    folder = make_folder(tmp_path / "pip")
    for number, text in enumerate(texts, start=1):
        (folder / f"images/{number:02d}.txt").write_text(text, "utf-8")
    return judge_captions(read_character(folder))


def test_captions_made_for_other_trainers_are_told_with_how_they_should_be(tmp_path: Path) -> None:
    foreign, shared = judge_captions(read_character(lay_out("19e-trigger-word-captions", tmp_path / "wren")))
    for word in ("1girl", "solo", "masterpiece", "best quality", "wren"):
        assert f'"{word}"' in foreign.problem
    for phrase in ("green hair", "twintails", "glasses", "looking at viewer"):
        assert f'"{phrase}"' in shared.problem
    assert "all 10 captions" in shared.problem and "learned with the name Wren" in shared.remedy
    right = (WREN / "images/01.txt").read_text("utf-8").strip()
    assert f'the caption of 01 would then be "{right}"' in shared.remedy


def test_good_captions_are_left_in_peace(tmp_path: Path) -> None:
    assert judge_captions(read_character(WREN)) == []
    assert judged(tmp_path, CAPTIONS) == []


def short(who: Subject) -> list[str]:
    """What varies in each picture, as the benchmark's folders have it."""
    return [captions.named_caption(look, who.name).split(", ", 2)[2] for look in who.shown]


def full(who: Subject) -> list[str]:
    """Captions that say who it is as well: hair, skin, kind."""
    rng = random.Random(who.name)
    return [captions.caption(look, rng, completeness=1.0) for look in who.shown]


@pytest.mark.parametrize("who", SUBJECTS, ids=lambda who: who.name)
def test_identity_in_every_caption_is_found_and_what_varies_is_not(who: Subject) -> None:
    noun = KIND_NOUN[who.look.kind]
    assert shared_phrases(short(who), who.name, noun) == {} and lasting_traits(short(who), "") == []
    assert shared_phrases(full(who), who.name, noun) != {}


def test_four_of_five_are_most_and_three_of_five_are_not() -> None:
    told = [
        "a photo of a fox, neon lights, running",
        "neon lights, asleep",
        "neon lights, in a tree",
        "neon lights, wet",
    ]
    assert shared_phrases([*told, "at sea"], "Rex", "fox") == {"neon lights": 4}
    assert shared_phrases([*told[:3], "at sea", "in a car"], "Rex", "fox") == {}


def test_a_noun_whose_adjective_changes_is_what_varies() -> None:
    hats = [f"wearing a {color} hat" for color in ("red", "blue", "green", "white", "black")]
    assert shared_phrases(hats, "Rex", "fox") == {}
    assert shared_phrases(["wearing a red hat", "red hat, asleep", "in a red hat", "red hat on"], "Rex", "fox") == {
        "red hat": 4
    }


def test_name_and_class_may_stand_in_every_caption() -> None:
    told = [f"Rex the red fox {doing}" for doing in ("running", "asleep", "eating", "at sea", "in a tree")]
    assert shared_phrases(told, "Rex", "red fox") == {}


def test_traits_that_some_captions_tell_are_named_and_those_that_change_are_not(tmp_path: Path) -> None:
    always = ["green hair, smiling", "green hair, at sea", "asleep", "wearing a red coat", "in rain"]
    assert lasting_traits(always, "") == ["green hair"]
    assert lasting_traits(["green hair, smiling", "pink hair, at sea", "green hair", "pink hair", "in rain"], "") == []
    assert lasting_traits(["two copper ears, at sea", "copper ears, asleep", "x", "y"], "Two copper ears.") == [
        "copper ears"
    ]
    assert lasting_traits(["wearing a brown fur coat"] * 4, "") == []
    (problem,) = judged(tmp_path, [*("brown skin, " + text for text in CAPTIONS[:3]), *CAPTIONS[3:]])
    assert "brown skin" in problem.problem and "Appearance" in problem.remedy


def test_captions_that_do_not_differ_are_told(tmp_path: Path) -> None:
    (problem,) = judged(tmp_path, ["smiling, at sea"] * 3 + CAPTIONS[3:])
    assert problem.problem == "3 of 10 pictures have the same caption (01, 02, 03)"
    assert equal_captions(["a", "b", "c"], ["Red, hat", "hat red", "hat"]) == [["a", "b"]]


@pytest.mark.parametrize(
    "word",
    ["ohwx", "sks", "score_9", "score_8_up", "source_anime", "rating_safe", "<lora:x:0.8>", "(smile:1.2)",
     "[filewords]", "masterpiece", "best quality", "absurdres", "1girl", "2boys"],
)  # fmt: skip
def test_words_of_other_trainers_are_known(word: str) -> None:
    assert foreign_words([f"{word}, at sea"], "Rex") == [word]
    assert without_phrases(f"{word}, at sea", [word]) == "at sea"


def test_ordinary_words_are_not_taken_for_theirs() -> None:
    for text in ("at 10:30 in a solo-flight cockpit", "the girl next door", "of the best kind", "a high hill (in fog)"):
        assert foreign_words([text], "Rex") == []


def test_few_captions_say_nothing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    for number in range(4, 11):
        (folder / f"images/{number:02d}.txt").unlink()
    assert judge_captions(read_character(folder)) == []
