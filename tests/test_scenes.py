"""New scenes: nobody has seen them, and their questions have the answers they claim."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from folders import make_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from charforge import grammar
from charforge.character import Character, read_character
from charforge.errors import InputError
from charforge.expand.holdout import hold_out
from charforge.expand.phrases import meanings
from charforge.expand.scenes import Scene, kinds_of, left_for_test, read_scenes, write_new_scenes, write_scenes

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def wren() -> Character:
    return read_character(EXAMPLES / "wren")


def details(scene: Scene) -> dict[str, str]:
    return {check.kind: check.question for check in scene.checks if check.answer}


def test_the_same_seed_gives_the_same_scenes(wren: Character):
    assert write_new_scenes(wren, 3) == write_new_scenes(wren, 3)
    assert write_new_scenes(wren, 3) != write_new_scenes(wren, 4)


@pytest.mark.parametrize("seed", range(5))
def test_held_out_scenes_share_no_pair_of_place_and_clothes_with_training(wren: Character, seed: int):
    scenes = write_new_scenes(wren, seed)
    pairs = {
        split: {(details(s)["place"], details(s)["clothes"]) for s in scenes if s.split == split}
        for split in ("train", "held_out")
    }
    assert len(pairs["train"]) == 24 and len(pairs["held_out"]) == 16 + 12
    assert not pairs["train"] & pairs["held_out"]


def test_what_is_tested_by_was_not_chosen_by(wren: Character):
    held = [scene for scene in write_new_scenes(wren, 0) if scene.split == "held_out"]
    chosen, tested = held[:12], left_for_test(held, 12)
    assert len(tested) == 16 and not {one.prompt for one in chosen} & {one.prompt for one in tested}
    # of a file that holds no more than those
    assert left_for_test(chosen, 12) == chosen


def test_no_scene_is_a_picture_that_was_given(wren: Character):
    captions = {grammar.picture_caption(wren, picture) for picture in wren.pictures}
    assert not captions & {scene.prompt for scene in write_new_scenes(wren, 0)}


def test_every_prompt_names_the_character_and_a_third_come_from_a_conversation(wren: Character):
    scenes = write_new_scenes(wren, 0)
    assert all(grammar.who(wren) in scene.prompt for scene in scenes)
    assert sum('"' in scene.prompt for scene in scenes) == pytest.approx(len(scenes) / 3, abs=1)


def test_no_held_out_reply_is_in_a_prompt(wren: Character):
    held = hold_out(wren, 0)
    replies = [t.text for i in held.dialogues for t in wren.dialogues[i].turns if t.role == "character"]
    for scene, reply in product(write_new_scenes(wren, 0), replies):
        assert grammar.shortened(reply.replace('"', "'"), wren.room.quote) not in scene.prompt


@pytest.mark.parametrize("seed", range(5))
def test_yes_and_no_are_asked_equally_often_and_differ_in_meaning(wren: Character, seed: int):
    for scene in write_new_scenes(wren, seed):
        by_kind: dict[str, dict[bool, str]] = {}
        for check in scene.checks:
            by_kind.setdefault(check.kind, {})[check.answer] = check.question
        for asked in by_kind.values():
            assert set(asked) == {True, False}
            assert not meanings(asked[True]) <= meanings(asked[False])
        for keyed in scene.keyed:
            right = keyed.options[keyed.right]
            assert len(set(keyed.options)) == len(keyed.options) == 4
            others = [option for option in keyed.options if option != right]
            assert all(not meanings(right) <= meanings(other) for other in others), keyed


def test_only_what_the_captions_speak_of_is_asked_for(tmp_path: Path, wren: Character):
    assert kinds_of(wren) == ["place", "mouth", "eyes", "clothes", "thing"]
    pip = read_character(make_folder(tmp_path / "pip"))
    assert kinds_of(pip) == ["place", "mouth", "clothes", "thing"]


def test_scenes_survive_a_file_and_edits(tmp_path: Path, wren: Character):
    file, scenes = tmp_path / "scenes.jsonl", write_new_scenes(wren, 0)
    write_scenes(file, scenes)
    assert read_scenes(file) == scenes
    file.write_text(file.read_text().replace('"answer": true', '"answer": "perhaps"', 1))
    with pytest.raises(InputError) as told:
        read_scenes(file)
    assert told.value.problems[0].file == "scenes.jsonl:1"
    write_scenes(file, [scene for scene in scenes if scene.split == "train"])
    with pytest.raises(InputError, match="held_out"):
        read_scenes(file)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str):
    file = tmp_path_factory.mktemp("scenes") / "scenes.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_scenes(file)
