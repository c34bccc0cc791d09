"""`charforge new --from`: a copy of what another program left, with the answers to what was unsure."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from command import charforge

from charforge.character import read_character
from charforge.character.adopt import write_answers
from charforge.character.read import read_folder

INVENTED = Path(__file__).parent / "invented"
WREN = Path(__file__).parent.parent / "examples" / "wren"


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_is_copied_and_what_is_sure_is_not_asked(tmp_path: Path) -> None:
    before = hashes(INVENTED / "Marco")
    done = charforge("new", str(tmp_path / "marco"), "--from", str(INVENTED / "Marco"))
    assert done.returncode == 0, done.stderr
    assert "pizza courier" in done.stderr and hashes(INVENTED / "Marco") == before
    assert hashes(tmp_path / "marco") == before
    assert read_character(tmp_path / "marco").class_noun == "pizza courier"


def test_the_example_is_there_for_everybody_and_is_copied_whole(tmp_path: Path) -> None:
    done = charforge("new", str(tmp_path / "wren"), "--example")
    assert done.returncode == 0 and f"charforge train {tmp_path / 'wren'}" in done.stderr
    assert hashes(tmp_path / "wren") == hashes(WREN) and read_character(tmp_path / "wren").name == "Wren"
    again = charforge("new", str(tmp_path / "wren"), "--example")
    assert again.returncode == 1 and "is not empty: name a new folder" in again.stderr
    named = charforge("new", str(tmp_path / "two"), "--example", "--name", "Bo")
    assert named.returncode == 1 and "leave --name" in named.stderr and not (tmp_path / "two").exists()


def test_what_is_unsure_becomes_a_line_to_fill_in_and_an_answer_counts(tmp_path: Path) -> None:
    done = charforge("new", str(tmp_path / "lumi"), "--from", str(INVENTED / "Lumi"))
    text = (tmp_path / "lumi" / "character.md").read_text("utf-8")
    assert done.returncode == 0 and "# class:" in text and "Perhaps: woman" in text
    done = charforge("new", str(tmp_path / "two"), "--from", str(INVENTED / "Lumi"), "--class", "street musician")
    assert done.returncode == 0, done.stderr
    character = read_character(tmp_path / "two")
    assert character.class_noun == "street musician" and character.understanding.class_noun.how == "sure"
    assert len(character.dialogues) == len(read_character(INVENTED / "Lumi").dialogues)


def test_a_character_md_that_came_along_keeps_what_it_says(tmp_path: Path) -> None:
    shutil.copytree(WREN, tmp_path / "wren")
    text = (tmp_path / "wren" / "character.md").read_text("utf-8").replace("class: voxel person\n", "")
    (tmp_path / "wren" / "character.md").write_text(text, "utf-8")
    write_answers(tmp_path / "wren", {"class": "voxel person"}, {})
    ours, again = read_character(WREN), read_character(tmp_path / "wren")
    assert (again.class_noun, again.persona, again.author) == (ours.class_noun, ours.persona, ours.author)


@pytest.mark.parametrize(
    ("source", "folder", "problem"),
    [("nowhere", "new", "does not exist"), ("src", "src/in", "lies in"), ("src", "full", "is not empty")],
)
def test_a_place_that_will_not_do_is_refused(source: str, folder: str, problem: str, tmp_path: Path) -> None:
    for name in ("src", "full"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a")
    done = charforge("new", str(tmp_path / folder), "--from", str(tmp_path / source))
    assert done.returncode == 1 and problem in done.stderr
    assert not (tmp_path / "new").exists() and not (tmp_path / "src" / "in").exists()


def test_a_front_matter_alone_corrects_a_release_and_more_than_that_takes_its_place(tmp_path: Path) -> None:
    shutil.copytree(INVENTED / "Marco", tmp_path / "marco")
    (tmp_path / "marco" / "character.md").write_text("---\nclass: baker\n---\n", "utf-8")
    assert read_character(tmp_path / "marco").class_noun == "baker"
    (tmp_path / "marco" / "character.md").write_text("---\nname: Mo\nclass: baker\n---\nMo bakes.\n", "utf-8")
    own = read_folder(tmp_path / "marco").character
    assert own is not None and own.name == "Mo" and not own.dialogues
