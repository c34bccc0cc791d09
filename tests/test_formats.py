"""Formats, names and marks that no case folder holds: each as its program writes it, or as people type it."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from card_files import card_charx
from folders import make_folder
from PIL import Image
from test_cards import V1, V3, chunk, picture, png_with

from charforge.character import Dialogue, read_folder
from charforge.character.cards import parse_card, read_card_bytes
from charforge.character.cleaning import cleaned, decoded
from charforge.character.notes import Notes, gathered
from charforge.character.picture_names import image_name, without_marks
from charforge.character.readers.documents import document
from charforge.character.readers.table import FORMATS, format_of, read_conversations
from charforge.character.readers.text_logs import read_text_log
from charforge.character.speakers import Names
from charforge.errors import Problem

PIP = Names.of("Pip")
TALK = [("user", "Tea?"), ("character", "Always, beep."), ("user", "Rain?"), ("character", "Soon.")]


def turns(dialogues: list[Dialogue] | tuple[Dialogue, ...]) -> list[list[tuple[str, str]]]:
    return [[(turn.role, turn.text) for turn in dialogue.turns] for dialogue in dialogues]


def read(value: Any) -> tuple[list[list[tuple[str, str]]], Notes]:
    notes = Notes()
    found = document(json.dumps(value), "x.json")
    return turns(read_conversations(found, PIP, notes).dialogues), notes


def text(words: str, log: bool = False) -> tuple[list[list[tuple[str, str]]], Notes]:
    notes = Notes()
    return turns(read_text_log(words, "x.txt", PIP, notes, log=log, lenient=log)), notes


OTHERS: dict[str, Any] = {
    "RisuAI chat": {"type": "risuChat", "ver": 2, "data": {"name": "Chat 1", "note": "", "localLore": [], "message": [
        {"role": "user", "data": "Tea?", "time": 1}, {"role": "char", "data": "Always, beep."},
        {"role": "user", "data": "Rain?"}, {"role": "char", "data": "Soon.", "saying": "abc"}]}},
    "Agnai chat": {"name": "Exported", "greeting": "", "messages": [
        {"_id": "1", "userId": "a", "handle": "You", "msg": "Tea?"}, {"characterId": "b", "msg": "Always, beep."},
        {"userId": "a", "msg": "Rain?"}, {"characterId": "b", "handle": "Pip", "msg": "Soon."}]},
    "KoboldAI save": {"gamestarted": True, "memory": "", "worldinfo": [], "prompt": "\n{{[INPUT]}}\nTea?",
        "actions": ["\n{{[OUTPUT]}}\nAlways, beep.", "\n{{[INPUT]}}\nRain?", "\n{{[OUTPUT]}}\nSoon."],
        "savedsettings": {"opmode": 4}},
    "text-generation-webui chat": {"internal": [], "visible": [
        ["<|BEGIN-VISIBLE-CHAT|>", ""], ["Tea?", "Always, beep."], ["Rain?", "Soon."]]},
    "Character.AI dump": {"info": {}, "histories": {"histories": [{"external_id": "x", "msgs": [
        {"src": {"is_human": True, "name": "A"}, "text": "Tea?"}, {"src": {"is_human": False, "name": "Pip"},
        "text": "Always, beep."}, {"src": {"is_human": True}, "text": "Rain?"},
        {"src": {"is_human": False, "name": "Pip"}, "text": "Soon."}]}]}},
    "list of lines": {"chat": ["You: Tea?", "Pip: Always, beep.", "You: Rain?", "Pip: Soon."]},
    "list of messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Always, beep."},
        {"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "Soon."}],
    "Alpaca": {"instruction": "Rain?", "output": "Soon.", "history": [["Tea?", "Always, beep."]]},
    "text of a chat template": {"text": "<|im_start|>user\nTea?<|im_end|>\n<|im_start|>assistant\nAlways, beep."
        "<|im_end|>\n<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\nSoon.<|im_end|>"},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Tea?"}, {"from": "gpt", "value": "Always, beep."},
        {"from": "human", "value": "Rain?"}, {"from": "gpt", "value": "Soon."}]},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_chats_of_other_programs_are_recognised_by_their_own_keys(name: str) -> None:
    known = format_of(document(json.dumps(OTHERS[name]), "x").values)
    assert known is not None and known.name == name
    said, notes = read(OTHERS[name])
    assert said == [TALK] and notes.problems == []
    assert sum(entry.count for entry in notes.entries if entry.taken) == 4


def test_every_row_of_the_table_has_its_own_name() -> None:
    assert len({row.name for row in FORMATS}) == len(FORMATS)


def test_the_chat_mode_of_koboldcpp_is_a_running_text_with_names() -> None:
    said = ["\nPip: Always, beep.", "\nAnn: Rain?", "\nPip: Soon."]
    save = {"gamestarted": True, "prompt": "\nAnn: Tea?", "actions": said,
            "memory": "Pip counts fog.", "savedsettings": {"chatname": "Ann", "chatopponent": "Pip"},
            "worldinfo": [{"key": "tea,cart", "content": "The cart has three wheels."}]}  # fmt: skip
    notes = Notes()
    found = read_conversations(document(json.dumps(save), "x.json"), PIP, notes)
    assert turns(found.dialogues) == [TALK] and found.told == (("x.json:memory", "Pip counts fog."),)
    assert found.book == {"entries": save["worldinfo"]}


def test_all_chats_of_risuai_and_a_name_that_is_not_the_characters() -> None:
    chats = {"type": "risuAllChats", "ver": 2, "data": [
        {"message": [{"role": "user", "data": "Tea?"}, {"role": "char", "data": "Always, beep."}]},
        {"message": [{"role": "user", "data": "Rain?"}, {"role": "char", "data": "Arr!", "name": "Mox"},
                     {"role": "char", "data": "Soon.", "name": "Pip"}]},
    ]}  # fmt: skip
    said, _ = read(chats)
    assert said == [TALK[:2], [("user", "Rain?\nMox: Arr!"), ("character", "Soon.")]]


def test_a_message_of_another_assistant_is_context() -> None:
    said, _ = read({"messages": [
        {"role": "user", "content": "Tea?"}, {"role": "assistant", "name": "Mox", "content": "Rum!"},
        {"role": "assistant", "name": "Pip", "content": "Always, beep."},
    ]})  # fmt: skip
    assert said == [[("user", "Tea?\nMox: Rum!"), ("character", "Always, beep.")]]


# plain text


@pytest.mark.parametrize(
    "words",
    [
        "User: Tea?\nPip: Always, beep.\nUser: Rain?\nPip: Soon.",
        "[10:02] User: Tea?\n[10:02] Pip: Always, beep.\n[10:03] User: Rain?\n[10:04] Pip: Soon.",
        "12/05/24, 10:03 - User: Tea?\n12/05/24, 10:03 - Pip: Always, beep.\n12/05/24, 10:04 - User: Rain?\n"
        "12/05/24, 10:05 - Pip: Soon.",
        "<User> Tea?\n<Pip> Always, beep.\n<User> Rain?\n<Pip> Soon.",
        "**User**: Tea?\n**Pip**: Always, beep.\n**User:** Rain?\n**Pip:** Soon.",
        "[User]: Tea?\n[Pip]: Always, beep.\n[User]: Rain?\n[Pip]: Soon.",
        "{{user}}：Tea?\n{{char}}：Always, beep.\n{{user}}：Rain?\n{{char}}：Soon.",
        "- User: Tea?\n- Pip: Always, beep.\n- User: Rain?\n- Pip: Soon.",
        "Ann: Tea?\nPip: Always, beep.\nAnn: Rain?\nPip: Soon.",
        "User:\nTea?\nPip:\nAlways, beep.\nUser:\nRain?\nPip:\nSoon.",
    ],
)
def test_names_before_words_in_every_way_that_people_write_them(words: str) -> None:
    said, _ = text(words)
    assert said == [TALK]


def test_a_name_that_comes_back_is_asked_about_once() -> None:
    said, notes = text("User: Tea?\nPip: Always.\nMox: Rum!\n\nUser: Rain?\nPip: Soon.\nMox: Arr!")
    assert said == [[("user", "Tea?"), ("character", "Always.")], [("user", "Rain?"), ("character", "Soon.")]]
    assert [problem.file for problem in notes.problems if "'Mox'" in problem.problem] == ["x.txt:3"]
    assert {entry.text for entry in notes.entries if not entry.taken} == {"Rum!", "Arr!"}


def test_actions_between_asterisks_stay_with_who_wrote_them() -> None:
    said, _ = text("User: *knocks* Tea?\nPip: *bows* Always.\n*The kettle sings.*")
    assert said == [[("user", "*knocks* Tea?"), ("character", "*bows* Always.\n*The kettle sings.*")]]


@pytest.mark.parametrize(
    "told",
    [
        "aliases: Buttons, The Cart\nuser: Ann", "aliases: [Buttons, The Cart]\nuser: [Ann]",
        "aliases:\n  - Buttons\n  - The Cart\nuser:\n- Ann",
    ],
)  # fmt: skip
def test_other_names_are_told_in_character_md(tmp_path: Path, told: str) -> None:
    folder = make_folder(tmp_path / "pip")
    character = folder / "character.md"
    character.write_text(character.read_text().replace("name: Pip", f"name: Pip\n{told}"))
    (folder / "chats").mkdir()
    (folder / "chats" / "a.txt").write_text("Mox: Rum!\nButtons: No.\nAnn: Tea?\nThe Cart: Always.")
    found = [d for d in read_folder(folder).character.dialogues if d.origin.startswith("chats")]  # type: ignore[union-attr]
    assert turns(found) == [
        [("user", "Mox: Rum!"), ("character", "No."), ("user", "Tea?"), ("character", "Always.")]
    ]  # fmt: skip


# marks of pictures


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("![a](images/05.png)", "05"), ("![](<my picture.png>)", "my picture"), ("![](my%20picture.png)", "my picture"),
        ("![](a(1).png)", "a(1)"), ("![](my picture.png)", "my picture"), ("![[05.png]]", "05"),
        ('![](05.png "a title")', "05"), ("[image: wren v1.1]", "wren v1.1"), ("[picture: 05.JPG]", "05"),
    ],
)  # fmt: skip
def test_marks_name_pictures(mark: str, name: str) -> None:
    assert without_marks(f"Look. {mark}") == ("Look.", name, None)


def test_a_mark_that_was_not_understood_is_told() -> None:
    said, notes = text("User: Hm?\nPip: Look. [image 05]")
    assert said[0][1] == ("character", "Look. [image 05]")
    assert "[image 05]" in notes.problems[0].problem
    assert image_name("sub\\05.png") == "05" and image_name(None) is None


# cards


@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        ({"char_name": "Pip", "char_persona": "A robot.", "char_greeting": "Hi.", "example_dialogue": "a",
          "world_scenario": "b"}, "first_mes", "Hi."),
        ({"spec": "chara_card_v2", "name": "Pip", "description": "beside", "data": {"name": "Pip"}}, "description",
         "beside"),
        ({"name": "Pip", "description": ["one", "two"], "personality": ""}, "description", "one\ntwo"),
        ({"data": json.dumps({"data": {"name": "Pip", "description": "deep"}})}, "description", "deep"),
        (json.dumps({"name": "Pip", "description": "string"}), "description", "string"),
    ],
    ids=["Pygmalion", "beside data", "list", "nested strings", "string"],
)  # fmt: skip
def test_fields_are_found_where_programs_put_them(document: Any, field: str, expected: str) -> None:
    card = parse_card(document, "x")
    assert card.name == "Pip" and getattr(card, field) == expected


def test_a_field_of_a_wrong_type_is_named() -> None:
    card = parse_card({"name": "Pip", "description": {"a": 1}, "personality": "dry"}, "x")
    assert card.description == "" and card.remarks == ("has no text as its description (dict): left out",)


def in_exif(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = base64.b64encode(json.dumps(V1).encode()).decode()
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        in_exif("WEBP"),
        in_exif("JPEG"),
        b"\xff\xd8\xff" + b"\0" * (5 << 20) + card_charx(V3, {}),
        picture() + card_charx(V3, {}),
        png_with(chunk(b"tEXt", b"chara\0" + json.dumps(V1).encode())),
        png_with(chunk(b"tEXt", b"chara\0" + base64.b64encode(json.dumps(V1).encode()).rstrip(b"="))),
        json.dumps(V1).encode("utf-16"),
    ],
    ids=["WEBP", "JPEG", "behind a long JPEG", "behind a PNG", "plain JSON in a PNG", "no padding", "UTF-16"],
)
def test_cards_are_found_in_every_picture(data: bytes) -> None:
    assert read_card_bytes(data, "x").name == "Pip"


def test_a_module_beside_the_card_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("card.json", json.dumps(V3))
        archive.writestr("module.risum", b"\x6f\0")
    (folder / "x.charx").write_bytes(out.getvalue())
    (folder / "other.risum").write_bytes(b"\x6f\0")
    reading = read_folder(folder)
    assert reading.errors == ()
    assert {"module.risum", "other.risum"} <= {entry.text for entry in reading.ledger.passed_over}


# cleaning


@pytest.mark.parametrize(
    ("raw", "text_left", "removed"),
    [
        ("a <3 b, 2 < 3 > 1 & \"c\"", "a <3 b, 2 < 3 > 1 & \"c\"", ()),
        ("<think>hm\nhm</think>\n\nYes.", "Yes.", ("reasoning",)),
        ("hm, the user</think>Yes.", "Yes.", ("reasoning",)),
        ("Yes. <think>cut off", "Yes.", ("reasoning",)),
        ("<p style='a'>One</p><br/>Two &amp; three", "One\n\nTwo & three", ("HTML",)),
        ("<style>b {}</style>Yes", "Yes", ("HTML",)),
        ("See https://x.test/a?b=c (now)", "See (now)", ("an address",)),
        ("A [link](https://x.test) here", "A link here", ("an address",)),
        ("<|im_start|>assistant", "assistant", ("marks of a prompt",)),
        ("\ud83d\ude00 and \ud83d, yes", "\U0001f600 and, yes", ("half a character",)),
        ("e\u0301\x00\ufeff", "\u00e9", ()),
    ],
)  # fmt: skip
def test_what_front_ends_add_is_taken_off_and_words_stay_to_the_letter(raw: str, text_left: str, removed: Any) -> None:
    clean = cleaned(raw)
    assert (clean.text, clean.removed) == (text_left, removed)


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "gb18030", "big5", "cp932", "cp949"])
def test_encodings_are_recognised(encoding: str) -> None:
    said = {
        "cp1252": "Größe und Übermut tun selten gut.", "cp1251": "Мастер чинит чайник и ворчит на удачу.",
        "gb18030": "我在修理灯塔的水壶，学徒。安全是个大词。", "big5": "我在修理燈塔的水壺，學徒。安全是個大詞。",
        "cp932": "灯台のやかんを直している。", "cp949": "나는 등대의 주전자를 고친다.",
    }[encoding]  # fmt: skip
    found = decoded(said.encode(encoding))
    assert found is not None and found.text == said and found.guessed


def test_utf8_that_was_cut_inside_a_letter_is_read() -> None:
    found = decoded("café au lait, s'il vous plaît, été".encode()[:-1])
    assert found is not None and found.text == "café au lait, s'il vous plaît, ét" and not found.guessed
    assert decoded(b"\x00\x01\xff\xfe\x80garbage" * 20) is None


def test_the_same_problem_on_many_lines_is_one_line_with_a_count() -> None:
    many = [Problem(f"d.jsonl:{n}", "error", f"turn {n} has no text", "write it") for n in range(1, 9)]
    few = [Problem(f"e.jsonl:{n}", "error", "is empty", "write it") for n in range(1, 6)]
    (first, *rest) = gathered([*many, *few])
    assert (first.file, first.problem) == ("d.jsonl:1", "turn 1 has no text (and 7 more like it)")
    assert rest == few


def test_pairs_that_charforge_wrote_are_not_read_as_dialogues(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "pairs.jsonl").write_text(json.dumps({"id": "a", "task": "vqa", "parts": []}))
    reading = read_folder(folder)
    assert reading.errors == () and [p.problem for p in reading.problems] == ["holds pairs that charforge wrote"]


# a file that is something else, and more ways to write a name


def test_a_name_with_a_tagline_in_a_log_is_the_character() -> None:
    assert Names.of("Pip").role_of("Pip | your robot") == "character"
    assert Names.of("Captain Pip").role_of("Captain Mox") is None


def test_a_speaker_of_a_data_set_who_is_nobody_known_is_context() -> None:
    said, _ = read({"conversations": [
        {"from": "human", "value": "Tea?"}, {"from": "Mox", "value": "Rum!"}, {"from": "Pip", "value": "Always, beep."},
    ]})  # fmt: skip
    assert said == [[("user", "Tea?\nMox: Rum!"), ("character", "Always, beep.")]]


def test_a_name_that_no_file_can_hold_is_shown_without_its_half_letter() -> None:
    notes = Notes()
    lines = [{"name": "A", "is_user": True, "mes": "Tea?"}, {"name": "M\ud800ox", "is_user": False, "mes": "Rum!"},
             {"name": "Pip", "is_user": False, "mes": "No."}]  # fmt: skip
    found = document("\n".join(json.dumps(line) for line in lines), "a.jsonl")
    assert turns(read_conversations(found, PIP, notes).dialogues) == [
        [("user", "Tea?\nMox: Rum!"), ("character", "No.")]
    ]
    assert ("other", "Mox") in notes.spoken and "Mox (1 lines)" in gathered(notes.problems)[0].problem


def test_a_log_that_does_not_mark_the_user_names_it_in_its_header(tmp_path: Path) -> None:
    lines = [
        {"user_name": "Ann", "character_name": "Pip"},
        {"name": "Ann", "mes": "Tea?"},
        {"name": "Pip", "mes": "Always."},
    ]
    notes = Notes()
    found = document("\n".join(json.dumps(line) for line in lines), "a.jsonl")
    assert turns(read_conversations(found, PIP, notes).dialogues) == [[("user", "Tea?"), ("character", "Always.")]]


def test_a_lorebook_that_is_called_a_card_is_told_as_what_it_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "card.json").write_text(json.dumps({"entries": {"0": {"content": "x"}}}))
    (error,) = read_folder(folder).errors
    assert error == Problem("card.json", "error", "is a lorebook and no character card", "call it lorebook.json")


def test_json_lines_under_the_name_of_a_text_are_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "dialogues.jsonl").rename(folder / "dialogues.txt")
    reading = read_folder(folder)
    assert reading.problems == () and reading.character is not None and len(reading.character.dialogues) == 12


def test_character_md_may_hold_macros_and_comments(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    path = folder / "character.md"
    path.write_text(path.read_text().replace("Pip collects", "<!-- note --> {{char}} collects"))
    character = read_folder(folder).character
    assert character is not None and "harbour. Pip collects lost buttons" in character.persona
