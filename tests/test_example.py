"""The example character: complete, readable, and honest about what it does not show in training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from folders import check_character
from PIL import Image, ImageChops

from charforge.character import read_character
from charforge.evaluate.questions import read_choices
from charforge.expand import expand, leaked
from charforge.kinds import TASKS

EXAMPLES = Path(__file__).parent.parent / "examples"
STUDIES = Path(__file__).parent.parent / "docs" / "studies"
WREN = EXAMPLES / "wren"


def lines(name: str) -> list[str]:
    return (STUDIES / name).read_text("utf-8").splitlines()


def test_nothing_is_wrong_with_it():
    assert [problem for problem in check_character(WREN) if problem.level == "error"] == []
    wren = read_character(WREN)
    assert (wren.name, wren.class_noun, wren.license) == ("Wren", "voxel person", "CC0-1.0")
    assert len(wren.pictures) == 10
    assert len(wren.dialogues) == 40
    assert len(wren.facts) == 14


def test_ten_different_looks():
    wren = read_character(WREN)
    captions = [picture.caption for picture in wren.pictures]
    assert len(set(captions)) == 10
    shown = {turn.image for dialogue in wren.dialogues for turn in dialogue.turns if turn.image}
    assert shown == {picture.name for picture in wren.pictures}


def test_unseen_prompts_and_questions_are_unseen():
    wren = read_character(WREN)
    known = {f"Wren, a voxel person, {picture.caption}" for picture in wren.pictures}
    asked = {turn.text for dialogue in wren.dialogues for turn in dialogue.turns}
    assert not known & set(lines("wren_unseen_prompts.txt"))
    assert not asked & set(lines("wren_unseen_questions.txt"))
    assert not any("Wren" in prompt for prompt in lines("control_prompts.txt"))


def test_its_pairs_do_not_leak():
    wren = read_character(WREN)
    pairs = expand(wren, seed=0).pairs
    assert {pair.task for pair in pairs} == set(TASKS)
    assert leaked(pairs, wren.name) == []


def test_its_keyed_questions_are_in_no_training_pair():
    wren = read_character(WREN)
    trained = {text for pair in expand(wren, seed=0).pairs if pair.split == "train" for text in pair.texts("user")}
    choices = read_choices(STUDIES / "wren_questions.json")
    assert len(choices) == 42 and not trained & {choice.question for choice in choices}
    assert all(len(set(choice.options)) == 4 for choice in choices)


def test_redrawing_gives_the_same_pixels():
    pytest.importorskip("dicebear", reason="needs the extra `recipe`")
    pytest.importorskip("cairosvg", reason="needs the extra `recipe`")
    sys.path.insert(0, str(STUDIES))
    from draw_wren import draw, looks

    redrawn = draw(looks()[0], 512)
    with Image.open(WREN / "images/01.png") as stored:
        assert ImageChops.difference(redrawn, stored.convert("RGB")).getbbox() is None
