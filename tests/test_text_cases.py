"""Files as people bring them (tests/cases): read right, or named. One test for each kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from laid_out import lay_out
from typer.testing import CliRunner

from charforge.character import Character, Dialogue, Reading, read_folder
from charforge.cli.main import app
from charforge.expand import expand

LAMPS = [f"By my left spanner, apprentice, lamp {n} wants oil and flattery." for n in range(12)]
WRENS_REPLIES = 48
EXAMPLES = ("A toaster with manners, apprentice. It bows now.", "Safe is a large word for a small kettle, apprentice.")


def read(case: str, tmp_path: Path) -> Reading:
    """The case laid out and read; it must at least say who it is about."""
    reading = read_folder(lay_out(case, tmp_path / "wren"))
    assert reading.character is not None
    return reading


def right(case: str, tmp_path: Path) -> Character:
    """The character of a case in which nothing is an error."""
    reading = read(case, tmp_path)
    assert reading.errors == () and reading.character is not None
    return reading.character


def replies(character: Character, file: str = "") -> list[str]:
    """What the character says in the dialogues of a file."""
    return [t.text for d in of(character, file) for t in d.turns if t.role == "character"]


def asked(character: Character, file: str = "") -> list[str]:
    return [t.text for d in of(character, file) for t in d.turns if t.role == "user"]


def of(character: Character, file: str) -> list[Dialogue]:
    return [d for d in character.dialogues if d.origin.startswith(file)]


def told(reading: Reading) -> list[str]:
    return [f"{problem.file}: {problem.problem}" for problem in reading.problems]


def left(reading: Reading) -> dict[str, str]:
    """Words that were passed over, and why."""
    return {entry.text: entry.reason for entry in reading.ledger.passed_over}


def changes(reading: Reading) -> set[str]:
    return {entry.reason for entry in reading.ledger.entries if entry.taken and entry.reason}


def test_files_of_the_system_are_skipped_everywhere(tmp_path: Path) -> None:
    reading = read("01-appledouble", tmp_path)
    assert reading.problems == () and reading.character is not None
    assert replies(reading.character, "chats/") == ["Lit, and humming, apprentice."]
    assert len(reading.character.facts) == 14 and len(reading.character.pictures) == 10
    assert right("01b-appledouble-charx", tmp_path / "b").name == "Wren"


def test_another_speaker_of_a_group_is_context_and_never_the_character(tmp_path: Path) -> None:
    reading = read("05-group-chat", tmp_path)
    character = reading.character
    assert character is not None and reading.errors == ()
    assert len(replies(character)) == 12 and not any("Arr" in text for text in replies(character))
    assert "Captain Mox: Arr! Plan 0 needs gunpowder" in asked(character)[0]
    assert [(s.name, s.voice, s.lines) for s in character.cast] == [
        ("Wren", "character", 12), ("Ann", "user", 12), ("Captain Mox", "other", 12),
    ]  # fmt: skip
    assert any("Captain Mox (12 lines)" in line for line in told(reading))
    learned = [text for pair in expand(character).pairs for p in pair.parts if getattr(p, "loss", False)
               for text in [getattr(p, "text", "")]]  # fmt: skip
    assert learned and not any("gunpowder" in text for text in learned)


def test_lines_hidden_from_the_prompt_are_dialogue_and_a_narrator_is_context(tmp_path: Path) -> None:
    reading = read("06-hidden", tmp_path)
    assert reading.character is not None and len(replies(reading.character)) == 20
    assert not any("Rain begins" in text for text in replies(reading.character))
    assert sum("Rain begins" in text for text in asked(reading.character)) == 4 - 1
    assert left(reading) == {"Rain begins to fall on the harbour.": "nobody answers it"}
    assert any(how.startswith("36 lines are hidden") for how in changes(reading))


@pytest.mark.parametrize("case", ["07-agnai", "07c-agnai-with-dialogues"])
def test_an_agnai_character_is_read_whole(tmp_path: Path, case: str) -> None:
    character = right(case, tmp_path)
    assert character.persona == "dry, patient" and character.voice == "calls you apprentice"
    assert character.appearance == "brown skin, long green twin tails, round glasses"
    assert character.opening == "Mind the wet paint, apprentice. What brings you in?"
    assert character.facts == ("Likes: left spanners, tea",)
    assert [(item.subject, item.text) for item in character.lore] == [
        ("Bolt", "Bolt is a kettle robot that Wren built.")
    ]  # fmt: skip
    assert tuple(replies(character, "card.json")) == EXAMPLES
    assert len(character.dialogues) == (41 if case.startswith("07c") else 1)
    assert "rate" not in character.persona


def test_half_characters_are_left_out_and_told(tmp_path: Path) -> None:
    reading = read("08-lone-surrogate", tmp_path)
    assert reading.character is not None and reading.errors == ()
    assert "It bows now, but it still throws bread." in replies(reading.character)[0]
    assert any(line.startswith("dialogues.jsonl:1: holds half a character") for line in told(reading))
    card = read("08b-lone-surrogate-card", tmp_path / "b")
    assert card.character is not None and card.character.persona == "Wren is a voxel person who repairs machines."
    assert card.character.opening == "Mind the wet paint, apprentice."
    assert any("half characters" in line for line in told(card))
    json.dumps(card.character.card, ensure_ascii=False).encode()
    for pair in [*expand(reading.character).pairs, *expand(card.character).pairs]:
        pair.model_dump_json().encode()


@pytest.mark.parametrize("case", ["09-sharegpt", "09b-alpaca", "09d-json-array-in-jsonl"])
def test_data_sets_of_other_trainers_are_read(tmp_path: Path, case: str) -> None:
    reading = read(case, tmp_path)
    assert reading.problems == () and reading.character is not None
    assert len(reading.character.dialogues) == 40
    # Alpaca has one exchange a record
    assert len(replies(reading.character)) == (40 if case == "09b-alpaca" else WRENS_REPLIES)
    if case == "09-sharegpt":
        assert "You are Wren." in left(reading)


def test_tools_are_passed_over_and_system_texts_are_not_lost(tmp_path: Path) -> None:
    reading = read("09f-openai-tool-turn", tmp_path)
    assert reading.character is not None and reading.problems == ()
    assert len(replies(reading.character)) == WRENS_REPLIES
    assert reading.character.facts[-2:] == (
        "Wren never says the word sprocket on a Sunday.", "Wren is nineteen years old.",
    )  # fmt: skip
    assert set(left(reading).values()) == {"a call of a tool, not words", "a tool says it"}


def test_an_embedded_picture_is_named_with_its_remedy(tmp_path: Path) -> None:
    reading = read("09g-openai-base64-image", tmp_path)
    assert reading.errors == () and reading.character is not None
    assert len(replies(reading.character)) == WRENS_REPLIES
    (problem,) = reading.problems
    assert (problem.file, problem.problem) == ("dialogues.jsonl:6", "holds an embedded picture")
    assert "images/" in problem.remedy


def test_full_width_colons_are_colons(tmp_path: Path) -> None:
    card = right("10-fullwidth-colon-card", tmp_path / "a")
    assert [[t.text for t in d.turns] for d in of(card, "card.json")] == [
        ["早上好！你在做什么？", "我在修理灯塔的水壶，学徒。"], ["水壶安全吗？", "对一只小水壶来说，安全是个大词。"],
    ]  # fmt: skip
    text = right("10b-fullwidth-colon-md", tmp_path / "b")
    assert replies(text) == ["A toaster with manners, apprentice.", "Safe is a large word, apprentice."]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("11-name-colon", "Re:Wren"),
        ("11c-name-underscore", "wren_the_tinkerer"),
        ("11d-name-emoji", "✨Wren✨ 🔧"),
        ("11e-name-pipe", "Wren | Your clumsy mechanic roommate who lives in the old lighthouse by the sea"),
        ("11f-name-asterisk", "*Wren*"),
        ("11g-name-user", "The User"),
        ("11h-name-newline", "Wren"),
    ],
)
def test_examples_are_read_whatever_the_name_holds(tmp_path: Path, case: str, name: str) -> None:
    character = right(case, tmp_path)
    assert character.name == name and tuple(replies(character)) == EXAMPLES


def test_a_name_that_is_missing_is_one_error_where_it_should_stand(tmp_path: Path) -> None:
    reading = read("11i-name-empty", tmp_path)
    (error,) = reading.errors
    assert (error.file, error.problem) == ("card.json", "has no name")


@pytest.mark.parametrize(
    ("case", "remark"),
    [
        ("12-charx-nested-folder", "has its card in Wren/card.json inside the zip"),
        ("12b-charx-jpeg-polyglot", ""),
        ("12f-png-uppercase", ""),
        ("12g-json-other-name", ""),
        ("12j-b64-newlines", ""),
        ("12k-png-bom-json", ""),
        ("12m-png-in-charx-zip", "has its card in Wren.png inside the zip"),
        ("12n-latin1-card", "is not UTF-8 text: it was read as cp1252"),
        ("13-offspec", "has a number as its personality: taken as text"),
        ("13d-v3-no-data", ""),
        ("13e-data-string", 'has its "data" as a string of JSON'),
        ("13f-wrapped", 'is wrapped in another object (under "character")'),
    ],
)
def test_cards_are_found_and_read_in_every_container_and_shape(tmp_path: Path, case: str, remark: str) -> None:
    reading = read(case, tmp_path)
    character = reading.character
    assert character is not None and reading.errors == ()
    assert character.name == "Wren" and replies(character)[-2:] == list(EXAMPLES)
    assert character.opening == "Mind the wet paint."
    assert [problem.problem for problem in reading.problems] == ([remark] if remark else [])
    wanted = "Wren est une mécanicienne prudente." if case.startswith("12n") else (
        "Wren is a small voxel person who repairs machines in an old lighthouse."
    )  # fmt: skip
    assert character.persona == wanted
    assert character.voice == ("12" if case == "13-offspec" else "dry, patient, suspicious of luck")


def test_a_card_among_the_pictures_is_found(tmp_path: Path) -> None:
    reading = read("12h-png-card-in-images", tmp_path)
    assert reading.character is not None and replies(reading.character)[-2:] == list(EXAMPLES)
    # what is wrong is the picture: it is the first one again
    assert all("same picture" in problem.problem for problem in reading.errors)


def test_a_number_is_a_name(tmp_path: Path) -> None:
    assert right("13b-name-number", tmp_path).name == "47"


@pytest.mark.parametrize("case", ["14-first-mes-markdown", "14c-macros-no-picture"])
def test_macros_markup_and_addresses_do_not_reach_the_character(tmp_path: Path, case: str) -> None:
    reading = read(case, tmp_path)
    character = reading.character
    assert character is not None and reading.errors == ()
    assert character.persona == (
        "Wren is your older sister and lives with you. You are afraid of Wren's kettle. Wren has green hair."
    )
    assert character.opening == 'Chapter 1 *She looks up.* "You\'re late. It is your turn to make tea."'
    assert replies(character, "card.json") == [
        "Good morning! Is that your hat?", "The kettle, apprentice. It is 3 o'clock.", "Bolt agrees.",
    ]  # fmt: skip
    assert asked(character, "card.json") == ["Hi.", "What is that smell?", "Bolt: Beep!"]
    assert any("{{setvar}}" in line for line in told(reading))
    everything = json.dumps([[t.text for t in d.turns] for d in character.dialogues]) + character.opening
    assert not any(mark in everything for mark in ("http", "<", "{{", "END_OF_DIALOG"))


@pytest.mark.parametrize("case", ["15b-chats-txt", "15c-chat-at-top", "15d-chats-JSONL-upper"])
def test_logs_are_found_under_every_name(tmp_path: Path, case: str) -> None:
    character = right(case, tmp_path)
    assert replies(character) == LAMPS
    assert [(s.name, s.voice) for s in character.cast] == [("Wren", "character"), ("Ann", "user")]


def test_reasoning_is_not_said(tmp_path: Path) -> None:
    reading = read("16-chat-think", tmp_path)
    assert reading.character is not None and replies(reading.character) == LAMPS
    assert changes(reading) == {"reasoning removed"} and reading.problems == ()


def test_of_several_answers_the_chosen_one_is_read_and_an_empty_one_answers_nothing(tmp_path: Path) -> None:
    reading = read("16c-chat-swipes-null", tmp_path)
    assert reading.character is not None and reading.errors == ()
    said = replies(reading.character)
    assert said == [LAMPS[0], *LAMPS[4:]]
    assert left(reading)["old"] == "a swipe that was not chosen"
    assert left(reading)["What about lamp number 1?"] == "the reply to it has no words"
    assert all(text.count("lamp number") == 1 for text in asked(reading.character))


def test_a_torn_line_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    reading = read("16e-chat-truncated-line", tmp_path)
    assert reading.character is not None and replies(reading.character) == LAMPS[:11] and reading.errors == ()
    assert [problem.file for problem in reading.problems] == ["chats/a.jsonl:25"]


def test_an_entry_of_a_lorebook_is_about_its_own_subject(tmp_path: Path) -> None:
    reading = read("17-lorebook-long-sentences", tmp_path)
    character = reading.character
    assert character is not None and reading.problems == ()
    assert [(item.subject, item.text) for item in character.lore][1:] == [
        ("Ottilie", "Ottilie's age is 81."), ("Ottilie", "Ottilie's hair is white."),
        ("Sprocket Rocks", "Sprocket Rocks: dangerous, black, under water at high tide."),
        ("Mox", "Mox's job is captain."),
    ]  # fmt: skip
    assert left(reading) == {"She hates him.": "does not say whom it is about"}
    expansion = expand(character)
    told = {p.texts("user")[-1]: p.texts("assistant")[-1] for p in expansion.pairs if p.task == "knowledge"}
    assert told["Tell me about Ottilie."] == "Ottilie's age is 81. Ottilie's hair is white."
    assert not any("81" in answer and "Ottilie" not in answer for answer in told.values())
    long = next(entry for entry in expansion.ledger.passed_over if entry.text.startswith("The lighthouse of Cog"))
    assert long.reason == "is longer than 30 words"


@pytest.mark.parametrize("case", ["17b-lorebook-other-name", "17d-lorebook-novelai", "17e-lorebook-agnai"])
def test_lorebooks_of_all_programs_are_read(tmp_path: Path, case: str) -> None:
    character = right(case, tmp_path)
    assert [(item.subject, item.text) for item in character.lore] == [
        ("lamp", "The lamp of the lighthouse is called Grandmother.")
    ]
    assert len(character.facts) == 14
    answers = [text for pair in expand(character).pairs for text in pair.texts("assistant")]
    assert "The lamp of the lighthouse is called Grandmother." in answers


@pytest.mark.parametrize(
    ("case", "facts"), [("17g-no-lorebook", 0), ("31 spaces [brackets] ünïcode (v1)", 14), ("18c-dots-in-names", 14)]
)
def test_what_is_right_has_no_problems(tmp_path: Path, case: str, facts: int) -> None:
    reading = read(case, tmp_path)
    assert reading.problems == () and reading.character is not None and len(reading.character.facts) == facts


def test_names_are_compared_whatever_way_accents_are_written(tmp_path: Path) -> None:
    reading = read("18-nfd", tmp_path)
    assert reading.problems == () and reading.character is not None
    assert {t.image for d in reading.character.dialogues for t in d.turns} >= {"café", "été", "naïve"}


def test_a_caption_in_another_encoding_is_read_and_told(tmp_path: Path) -> None:
    reading = read("20b-alpha-captions-bom", tmp_path)
    assert reading.character is not None and reading.errors == ()
    assert (
        reading.character.picture("01").caption == reading.character.picture("02").caption == "smiling, in a workshop"
    )
    assert [problem.file for problem in reading.problems] == ["images/02.txt"]


def test_an_unknown_speaker_between_two_lines_of_the_character_is_asked_about(tmp_path: Path) -> None:
    reading = read("22b-txt-persona-mixed", tmp_path)
    assert reading.character is not None and reading.errors == ()
    assert replies(reading.character) == [
        "Mind the paint, apprentice.", "Bolt did, apprentice.", "He is enthusiastic, apprentice.",
    ]  # fmt: skip
    assert asked(reading.character)[1] == "Ann: Who painted it?"
    assert [problem.file for problem in reading.problems] == ["dialogues.txt:3"]
    assert "'Ann'" in reading.problems[0].problem


def test_a_mood_behind_the_name_is_no_word_of_the_reply(tmp_path: Path) -> None:
    reading = read("22c-md-emote-speaker", tmp_path)
    assert reading.character is not None
    assert replies(reading.character) == [f"By my left spanner, apprentice, lamp {n} wants oil." for n in range(12)]
    assert changes(reading) == {"the mood behind the name was left out: (annoyed)"}


def test_headings_that_name_a_speaker_are_that_speaker(tmp_path: Path) -> None:
    character = right("22d-md-headings", tmp_path)
    assert replies(character) == [f"By my left spanner, apprentice, lamp {n} wants oil." for n in range(12)]
    assert asked(character) == [f"What about lamp number {n}?" for n in range(12)]


def test_a_list_in_a_reply_stays_in_the_reply(tmp_path: Path) -> None:
    character = right("22g-quoted-reply-with-colon", tmp_path)
    assert replies(character) == [
        "Three things, apprentice:\nTea: black and slightly burnt.\nMe: well rested.\nYou: less curious.",
        "Any time, apprentice.",
    ]


def test_check_shows_the_cast_the_counts_and_with_verbose_the_reasons(tmp_path: Path) -> None:
    folder = str(lay_out("05-group-chat", tmp_path / "wren"))
    shown = CliRunner().invoke(app, ["check", "--no-cost", folder]).output
    assert "12 lines  Captain Mox: somebody else, never learned" in shown and "chats/group.jsonl" in shown
    hidden = str(lay_out("06-hidden", tmp_path / "other"))
    brief = CliRunner().invoke(app, ["check", "--no-cost", hidden]).output
    assert "passed over: 1" in brief and "nobody answers it" not in brief
    assert "nobody answers it" in CliRunner().invoke(app, ["check", "--no-cost", "--verbose", hidden]).output
    told = json.loads(CliRunner().invoke(app, ["check", "--no-cost", "--json", hidden]).stdout)
    assert {"file": "chats/long.jsonl", "kind": "turn", "taken": 43, "passed_over": 1} in told["ledger"]["counts"]
    assert told["cast"][0] == {"name": "Wren", "voice": "character", "lines": 20}


def test_expand_writes_the_ledger_beside_the_pairs(tmp_path: Path) -> None:
    folder = lay_out("17-lorebook-long-sentences", tmp_path / "wren")
    out = tmp_path / "pairs.jsonl"
    assert CliRunner().invoke(app, ["expand", str(folder), "--out", str(out), "--no-page"]).exit_code == 0
    ledger = json.loads((tmp_path / "pairs.ledger.json").read_text())
    reasons = {entry["text"]: entry["reason"] for entry in ledger["passed_over"]}
    assert reasons["She hates him."] == "does not say whom it is about"
    dropped = [json.loads(line) for line in (tmp_path / "pairs.dropped.jsonl").read_text().splitlines()]
    assert {row["sentence"] for row in dropped if "sentence" in row} >= {"She hates him."}
