"""Whose a name is: titles, first and last names, and what is asked where others have them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import make_folder

from charforge.character import read_folder
from charforge.character.people import named_in
from charforge.character.read import Reading
from charforge.character.speakers import Names
from charforge.expand.knowledge import questions


def folder_of(tmp_path: Path, character: str, dialogues: str = "", **files: str) -> Path:
    """Pip's folder with another character in it."""
    folder = make_folder(tmp_path / "folder")
    for name in ("facts.md", "dialogues.jsonl"):
        (folder / name).unlink()
    (folder / "character.md").write_text(character, "utf-8")
    (folder / "dialogues.txt").write_text(dialogues or "User: Hello?\nCharacter: Good evening to you.\n", "utf-8")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, "utf-8")
    return folder


def card_of(tmp_path: Path, name: str, description: str, *entries: tuple[list[str], str], **fields: object) -> Path:
    folder = make_folder(tmp_path / "folder")
    for file in ("facts.md", "dialogues.jsonl", "character.md"):
        (folder / file).unlink()
    rows = [{"keys": keys, "content": content, "enabled": True} for keys, content in entries]
    data = {
        "name": name, "description": description, "first_mes": "Hello.", "character_book": {"entries": rows},
        "mes_example": "<START>\n{{user}}: Hello?\n{{char}}: Good evening to you.", **fields,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps({"spec": "chara_card_v2", "spec_version": "2.0", "data": data}))
    return folder


def heads(reading: Reading) -> list[tuple[str, str, int]]:
    assert reading.character is not None
    return [(speaker.name, speaker.voice, speaker.lines) for speaker in reading.character.cast]


def told(reading: Reading) -> str:
    return "\n".join(f"{problem.file}: {problem.problem}; {problem.remedy}" for problem in reading.problems)


@pytest.mark.parametrize(
    ("name", "own", "not_own"),
    [
        ("Mr. Thistlewick", "Thistlewick, Mister Thistlewick", "Mrs. Thistlewick, Mr"),
        (
            "Dr. Julia Kowal",
            "Julia, Kowal, Dr. Kowal, Dr Kowal, dr.kowal, Prof. Kowal, Miss Julia, Julia Kowal",
            "Marek, Marek Kowal, Mrs. Kowal, Old Julia, Doctor",
        ),
        ("Доктор Юлия Коваль", "Юлия, Коваль, Доктор Коваль, д-р Коваль, Юлия Коваль", "г-жа Коваль, Доктор"),
        ("Biscuit", "Prof. Biscuit, the Biscuit", "Mrs. Biscuit, Little Biscuit, Prof"),
        ("Hob and Nell", "Hob, Nell", "and"),
        ("Winnie the Pooh", "Winnie", "the"),
        ("Keeper of Bees", "Keeper", "Bees, of"),
        ("Alexander the Great", "Alexander", "Great"),
        ("Ludwig van Beethoven", "Ludwig, Beethoven", "van"),
        ("Santa Claus", "Santa, Claus", "Mrs. Claus"),
        ("Duke Nukem", "Duke, Nukem", ""),
        ("The Archivist", "Archivist", "The"),
        ("Old Tom", "Tom", "Young Tom, Old"),
        ("Queen Bertha II", "Bertha, Queen Bertha", "King Bertha, II"),
        ("Agent 47", "Agent", "47"),
        ("Captain Mox", "Mox, Cap'n Mox", "Captain"),
        ("King", "King, the King", "Burger King"),
        ("Human Torch", "Torch", "Human"),
        ("King of Hearts", "King of Hearts", "Hearts, King, Queen of Hearts"),
        ("Professor Maria von Stein", "Maria, Stein, von Stein, Prof. von Stein, Dr. Stein", "von, Frau Stein"),
        ("Ming Xi", "Xi, Ming", "XI Ming"),
    ],
)  # fmt: skip
def test_a_name_counts_without_its_title_and_by_its_first_and_last_word(name: str, own: str, not_own: str) -> None:
    names = Names.of(name)
    assert [word for word in own.split(", ") if names.role_of(word) != "character"] == []
    assert [word for word in not_own.split(", ") if names.role_of(word) == "character"] == []


@pytest.mark.parametrize(
    ("others", "own", "unsure"),
    [
        (["Marek Kowal"], "Julia, Dr. Kowal", "Kowal, Prof. Kowal"),
        (["Dr. Marek Kowal"], "Julia", "Kowal, Dr. Kowal"),
        (["Mrs. Kowal"], "Julia, Dr. Kowal", "Kowal"),
        (["Dr. Marek Kowal"], "Julia", "Doctor Kowal"),
        (["Marek Kowal"], "Doctor Kowal", "Kowal"),
        (["Julia Novak"], "Kowal, Dr. Kowal", "Julia"),
        (["Kowal Manor", "Dr. Kowal", "Julia Anna Kowal"], "Julia, Kowal", "Mrs. Kowal"),
    ],
)
def test_what_others_are_called_too_is_nobodys(others: list[str], own: str, unsure: str) -> None:
    names = Names.of("Dr. Julia Kowal", others=others)
    assert [word for word in own.split(", ") if names.role_of(word) != "character"] == []
    assert [word for word in unsure.split(", ") if names.role_of(word) is not None] == []


def test_names_of_others_stand_where_names_stand() -> None:
    text = "User: Hello Marek Kowal\nMarek Kowal: Hm. Kowal Manor is old.\n**Dr. Novak:** Yes.\nwhat Kowal says: no"
    assert named_in([text]) == {"Marek Kowal", "Dr. Novak"}
    as_json = json.dumps({"entries": [{"keys": ["Nell Gwyn", "shoe"], "comment": "Kowal's hive"}], "name": "Jo Kay"})
    assert named_in([as_json]) == {"Nell Gwyn", "Jo Kay"}


def test_an_entry_under_the_name_without_its_title_is_about_the_character(tmp_path: Path) -> None:
    entry = (["Thistlewick", "butler"], "He keeps a love letter in his left shoe.")
    folder = card_of(tmp_path, "Mr. Thistlewick", "Mr. Thistlewick is a hedgehog butler.", entry)
    character = read_folder(folder).character
    assert character is not None
    assert character.facts == ("Mr. Thistlewick keeps a love letter in his left shoe.",) and not character.lore
    assert ("What do you keep?", "I keep a love letter in my left shoe.", "facts:1") in questions(character)


def test_an_entry_under_a_name_that_others_have_is_asked_about(tmp_path: Path) -> None:
    folder = card_of(
        tmp_path,
        "Dr. Julia Kowal",
        "Dr. Julia Kowal is a beekeeper.",
        (["Marek Kowal"], "Marek Kowal is a baker."),
        (["Kowal"], "Kowal was born in a mill."),
    )
    reading = read_folder(folder)
    assert reading.character is not None
    assert {lore.subject for lore in reading.character.lore} == {"Marek Kowal", "Kowal"}
    assert "is about 'Kowal', which may be Dr. Julia Kowal or somebody else" in told(reading)
    assert "write aliases: Kowal into character.md" in told(reading)


def test_every_way_of_writing_the_name_is_the_character_in_dialogues(tmp_path: Path) -> None:
    said = "User: Who?\nJulia: The keeper.\n\nUser: And?\nDr. Kowal: I am a flower.\n\nUser: So?\nKowal: Yes."
    reading = read_folder(folder_of(tmp_path, "---\nname: Dr. Julia Kowal\n---\nJulia is a beekeeper.", said))
    assert heads(reading) == [("Dr. Julia Kowal", "character", 3), ("the user", "user", 3)]
    assert "never occurs" not in told(reading)


@pytest.mark.parametrize("label", ["Dr. Novak", "J. R. Novak", "Prof. Dr. Novak", "Д-р Новак", "Mrs. Kowal"])
def test_a_label_with_a_full_stop_is_told_of(tmp_path: Path, label: str) -> None:
    said = f"User: Who?\nJulia: The keeper.\n\nUser: And?\n{label}: They sing.\nJulia: They do, all night.\n"
    reading = read_folder(folder_of(tmp_path, "---\nname: Dr. Julia Kowal\n---\nJulia is a beekeeper.", said))
    assert repr(label.casefold())[1:-1] in told(reading).casefold()


def test_a_title_is_no_word_of_a_list(tmp_path: Path) -> None:
    said = "User: Sugar?\nDr. Novak: two\nMilk: none\nTea: black\nBiscuit: Honk.\n"
    problems = told(read_folder(folder_of(tmp_path, BISCUIT, said)))
    assert "begins like a speaker ('dr. novak')" in problems.casefold() and "milk" not in problems.casefold()


def test_the_character_does_not_speak_of_itself_by_a_part_of_its_name(tmp_path: Path) -> None:
    persona = "Julia is a beekeeper. Dr. Kowal studies bees at night. Kowal's hat is yellow. Marek taught Julia to sew."
    character = read_folder(folder_of(tmp_path, f"---\nname: Dr. Julia Kowal\n---\n{persona}\n")).character
    assert character is not None and character.class_noun == "beekeeper"
    asked = {question: answer for question, answer, _ in questions(character)}
    assert asked["What do you study?"] == "I study bees at night."
    assert asked["What is your hat like?"] == "My hat is yellow."
    assert not [q for q in asked if q.startswith("Tell me about ") and q != "Tell me about yourself."]
    assert not [answer for answer in asked.values() if "Julia" in answer and "Dr. Julia Kowal" not in answer]


def dialogues(reading: Reading) -> list[list[str]]:
    assert reading.character is not None
    return [[turn.text for turn in dialogue.turns] for dialogue in reading.character.dialogues]


BISCUIT = "---\nname: Biscuit\n---\nBiscuit is a clown.\n"


def test_an_empty_line_ends_a_dialogue_whoever_speaks_next(tmp_path: Path) -> None:
    said = "User: A?\nBiscuit: B.\n\n" + "".join(f"Yulia: Why {n}?\nBiscuit: Honk {n}.\n\n" for n in range(5))
    told = dialogues(read_folder(folder_of(tmp_path, BISCUIT, said)))
    assert told == [["A?", "B."], *([f"Yulia: Why {n}?", f"Honk {n}."] for n in range(5))]


def test_what_nobody_answers_is_no_dialogue_of_its_own(tmp_path: Path) -> None:
    said = "User: A?\nBiscuit: B.\nAnn: Boo!\n\nUser: C?\nBiscuit: D.\n\nAnn: Boo!\nAnn: Boo!\n"
    reading = read_folder(folder_of(tmp_path, BISCUIT, said))
    assert dialogues(reading) == [["A?", "B."], ["C?", "D."]] and not reading.errors


def test_you_is_the_user_beside_user(tmp_path: Path) -> None:
    said = "".join(f"You: Why {n}?\nBiscuit: Honk {n}.\n\n" for n in range(3)) + "User: Hm?\nBiscuit: No.\n"
    reading = read_folder(folder_of(tmp_path, BISCUIT, said))
    assert heads(reading) == [("Biscuit", "character", 4), ("the user", "user", 4)]
    assert len(dialogues(reading)) == 4


def test_you_in_a_list_is_nobody(tmp_path: Path) -> None:
    said = (
        "User: Compare us.\nYou: slow\nMe: fast\nBiscuit: Like this.\nYou: tall\nMe: short\n\nUser: Oh?\nBiscuit: No.\n"
    )
    reading = read_folder(folder_of(tmp_path, BISCUIT, said))
    assert dialogues(reading)[0] == ["Compare us.\nYou: slow\nMe: fast", "Like this.\nYou: tall\nMe: short"]


def test_you_is_the_character_where_it_says_so(tmp_path: Path) -> None:
    said = "Yulia: Why?\nYou: Honk.\n\nYulia: And?\nYou: Honk twice.\n"
    reading = read_folder(folder_of(tmp_path, "---\nname: Biscuit\naliases: You\n---\nBiscuit is a clown.\n", said))
    assert heads(reading) == [("Biscuit", "character", 2), ("Yulia", "user", 2)]


def test_the_surname_with_its_particle_where_somebody_else_has_it() -> None:
    names = Names.of("Professor Maria von Stein", others=["Hans von Stein"])
    assert names.role_of("Prof. von Stein") == names.role_of("Prof. Stein") == names.role_of("Maria") == "character"
    assert names.role_of("von Stein") is names.role_of("Stein") is None


def test_an_entry_about_a_title_alone_is_asked_about(tmp_path: Path) -> None:
    entry = (["Captain"], "The Captain plays the organ.")
    reading = read_folder(card_of(tmp_path, "Captain Nemo", "Nemo commands a submarine.", entry))
    assert "is about 'Captain', which may be Captain Nemo or somebody else" in told(reading)


@pytest.mark.parametrize(
    ("name", "sentence", "subject"),
    [
        ("Rose Tyler", "Rose petals make her sneeze.", ""),
        ("Rose Tyler", "Rose is a baker.", "Rose"),
        ("Rose Tyler", "Rose's aunt bakes.", "Rose"),
        ("Rose Tyler", "Rose Novak is her aunt.", ""),
        ("Rose Tyler", "Rose Tyler bakes.", "Rose Tyler"),
        ("Red Hood", "Red is her favourite colour.", ""),
        ("Red Hood", "Hood ornaments shine on her shelf.", ""),
        ("Mr. Fox", "Mr. Fox bakes.", "Mr. Fox"),
        ("Keeper of Bees", "Keeper of Bees bakes.", "Keeper of Bees"),
        ("Keeper of Bees", "Keeper of Wasps bakes.", ""),
        ("Dr. Julia Kowal", "Dr. Kowal bakes.", "Dr. Kowal"),
        ("Dr. Julia Kowal", "Mrs. Kowal bakes.", ""),
        ("Dr. Julia Kowal", "Julia and Marek bake.", ""),
        ("Dr. Julia Kowal", "Julian bakes.", ""),
    ],
)
def test_whom_a_sentence_is_about(name: str, sentence: str, subject: str) -> None:
    assert Names.of(name).subject_of(sentence) == subject
