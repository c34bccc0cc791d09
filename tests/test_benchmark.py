"""A release in the layout of RoleScape: read as it is, without what training asks, with names replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from released import write_release

from charforge.character import Character
from charforge.errors import InputError
from charforge.evaluate.release_items import invented_name, renamed_character, renamed_release, without_leaks
from charforge.evaluate.rolescape import Release, read_release
from charforge.expand import ImagePart, Pair, TextPart

SHARED = Path(os.environ.get("CHARFORGE_ROLESCAPE", "/nowhere"))
"""The folder of the release, where somebody has it."""
KINDS = ("captions", "scenes", "dialogues", "knowledge", "looks", "memorization", "personality")


@pytest.fixture
def pip(tmp_path: Path) -> Release:
    return read_release(write_release(tmp_path / "release"))[0]


@pytest.mark.parametrize("nested", [False, True])
def test_both_layouts_are_read_and_every_item_counts(tmp_path: Path, nested: bool):
    pip, nan = read_release(write_release(tmp_path / "release", nested))
    assert (pip.name, nan.name, nan.folder) == ("Pip", "Nan", "Tales-Nan")
    assert pip.parsed() == dict(zip(KINDS, (2, 1, 2, 3, 3, 1, 1), strict=True))
    assert list(pip.train_pictures) == ["0", "1", "2", "3"] and list(pip.test_pictures) == ["0", "1"]
    assert pip.personality == ["Are you lonely, Pip?"], "stray quotes and asterisks are gone"
    assert pip.knowledge[2].options == ("At sea", "In a mill", "In a tea cart", "7"), "numbers are words too"
    assert [look.image for look in pip.looks] == ["0", "0", "1"]
    assert pip.looks[1].choice.right == 2


def test_items_that_cannot_be_read_are_named(pip: Release):
    told = [(problem.file, problem.problem) for problem in pip.problems]
    assert len(told) == 3
    assert told[0][0] == "Pip/train/Pip_knowledge_qa_test.json: item 4" and "'D'" in told[0][1]
    assert told[1][0].endswith("item 5") and told[2][0].endswith("memorization_test.json: item 2")


def test_files_that_are_no_json_are_named_and_the_others_read(tmp_path: Path):
    write_release(tmp_path)
    (tmp_path / "Pip/train/Pip_knowledge_qa_test.json").write_text("{not json")
    (tmp_path / "Pip/train/Pip_personality_test.json").write_text('{"test_questions": {"a": 1}}')
    pip = read_release(tmp_path)[0]
    assert pip.knowledge == [] and pip.personality == [] and len(pip.dialogues) == 2
    assert sum(problem.level == "error" for problem in pip.problems) == 2


KEYS = st.sampled_from(["scenes", "mcq_items", "role", "text", "options", "answer_key", "question", "image"])
ODD = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(ODD)
def test_whatever_a_file_holds_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, value: object):
    folder = tmp_path_factory.mktemp("odd") / "Odd" / "train"
    folder.mkdir(parents=True)
    for ending in ("annotation", "Odd_with_image", "Odd_knowledge_qa_test", "Odd_personality_test"):
        (folder / f"{ending}.json").write_text(json.dumps(value))
    (odd,) = read_release(folder.parent.parent)
    assert all(choice.options[choice.right] for choice in odd.knowledge)


def test_a_folder_without_characters_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match="no character lies there"):
        read_release(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_release(tmp_path / "nowhere")


def pair(task: str, asked: str, image: str = "") -> Pair:
    said = (TextPart(role="user", text=asked), TextPart(role="assistant", text="Beep.", loss=True))
    looked = (ImagePart(image=image, use="look"),) if image else ()
    return Pair(id=f"{task} {asked}", task=task, split="train", origin="test", parts=(*looked, *said))


def test_what_the_training_files_ask_is_left_out_of_a_bundles_test(pip: Release):
    kept, leaked = without_leaks(pip, None)
    assert leaked == dict(zip(KINDS, (0, 0, 1, 1, 1, 0, 0), strict=True))
    assert [line.user for line in kept.dialogues] == ["Where is your cart?"]
    assert [choice.question for choice in kept.knowledge] == ["What does Pip collect?", "Where does Pip live?"]
    # the same question about another picture was not trained on
    behind = "What is behind it?"
    assert [(look.image, look.choice.question) for look in kept.looks] == [("0", behind), ("1", behind)]


def test_of_a_run_what_its_own_pairs_ask_is_left_out(pip: Release):
    pairs = [pair("knowledge", "So, what does Pip collect?"), pair("vqa", "What is behind it?", "1")]
    kept, leaked = without_leaks(pip, pairs)
    assert leaked["knowledge"] == 1 and leaked["dialogues"] == 0 and leaked["looks"] == 1
    assert "What does Pip collect?" not in [choice.question for choice in kept.knowledge]
    assert [look.image for look in kept.looks] == ["0", "0"]
    held_out = pairs[0].model_copy(update={"split": "held_out"})
    assert without_leaks(pip, [held_out])[1]["knowledge"] == 0


def test_another_name_stands_everywhere_and_nothing_else_changes(pip: Release):
    name = invented_name(pip)
    other = renamed_release(pip)
    persona = "Pip is kind. Pippa is not."
    character = Character("Pip", "robot", persona, "", "", ("Pip's cart.",), "", "", "", (), (), Path())
    changed = renamed_character(character, pip)
    assert changed.persona == f"{name} is kind. Pippa is not." and changed.facts == (f"{name}'s cart.",)
    assert changed.name == name
    assert [choice.right for choice in other.knowledge] == [choice.right for choice in pip.knowledge]
    told = json.dumps([other.dialogues, other.knowledge, other.captions, other.personality], default=str)
    assert "Pip" not in told and name in told
    pip.captions["0"] = f"{name} on a beach"
    assert invented_name(pip) != name, "a name that the texts use is no other name"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the release is not here: CHARFORGE_ROLESCAPE names its folder")
def test_the_release_is_read_to_the_last_item():
    for release in read_release(SHARED):
        assert release.problems == [], release.name
        counts = release.parsed()
        assert (counts["knowledge"], counts["dialogues"], counts["captions"]) == (10, 20, len(release.test_pictures))
        assert 0 < counts["looks"] <= 60
        assert {look.image for look in release.looks} == set(release.train_pictures)
