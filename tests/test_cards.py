"""Cards of other programs in, cards out, and hostile files that must end in one line."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from card_files import as_v2, card_charx, card_json, card_png
from folders import check_character, make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from charforge.bundle.card import character_card
from charforge.character import Dialogue, read_character
from charforge.character.attributes import attributes_as_lines
from charforge.character.cards import (
    Card,
    convert,
    parse_card,
    parse_lorebook,
    read_card_bytes,
)
from charforge.character.cards.containers import PNG
from charforge.character.cards.macros import resolved
from charforge.character.cards.write import as_v3
from charforge.character.kinds import kind_of
from charforge.character.notes import Notes
from charforge.character.profile import Profile, parse_character_md
from charforge.character.speakers import Names
from charforge.character.statements import fields
from charforge.errors import InputError, Problem


def card_profile(card: Card, file: str, problems: list[Problem]) -> Profile:
    return convert.card_profile(card, Names.of(card.name), file, Notes(problems)).profile


def card_dialogues(card: Card, file: str, problems: list[Problem]) -> list[Dialogue]:
    return convert.card_dialogues(card, Names.of(card.name), file, Notes(problems))


def lore_of(card: Card) -> list[tuple[str, str]]:
    """(subject, sentence) of what a card's book says about others."""
    described = convert.card_profile(card, Names.of(card.name), "card", Notes())
    return [(item.subject, item.text) for item in described.lore]


V1 = {
    "name": "Pip", "description": "{{char}} is a small clay robot who runs a tea cart.", "personality": "warm, brief",
    "scenario": "", "first_mes": "*waves* Hello, {{user}}!",
    "mes_example": "<START>\n{{user}}: Tea?\n{{char}}: Always, beep.\n<START>\n<USER>: Rain?\n<BOT>: Soon.\nA hat?",
}  # fmt: skip
V2: dict[str, Any] = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        **V1,
        "creator_notes": "made for tests", "system_prompt": "", "post_history_instructions": "",
        "alternate_greetings": ["Evening!"], "tags": ["robot"], "creator": "somebody", "character_version": "main",
        "extensions": {
            "agnai/voice": {"kind": "x"}, "chub": {"id": 7}, "talkativeness": "0.5", "world": "Harbour",
            "depth_prompt": {"prompt": "", "depth": 4, "role": "system"}, "risuai": {"bias": [["a", 1]]},
        },
        "character_book": {
            "name": "Harbour", "extensions": {"chub": {}}, "entries": [
                {"keys": ["tea"], "content": "The tea cart has three wheels. It squeaks in D minor.", "extensions": {},
                 "enabled": True, "insertion_order": 1, "case_sensitive": False, "id": 1},
                {"keys": ["x"], "content": "Nobody may know this.", "extensions": {}, "enabled": False,
                 "insertion_order": 2},
            ],
        },
        "somebodys_key": [1, {"two": None}],
    },
    "create_date": "2024-1-1",
}  # fmt: skip
V3: dict[str, Any] = {
    "spec": "chara_card_v3",
    "spec_version": "3.1",
    "data": {
        **V2["data"],
        "group_only_greetings": [], "nickname": "Pipsqueak", "creation_date": 1700000000, "source": ["https://x.test"],
        "assets": [{"type": "icon", "uri": "embeded://assets/icon/images/main.png", "name": "main", "ext": "png"}],
        "character_book": {"entries": [{
            "keys": ["gull"], "content": "@@depth 4\n@@@role system\nThe gull is called Admiral Crumb.",
            "extensions": {}, "enabled": True, "insertion_order": 1, "use_regex": False}]},
    },
}  # fmt: skip
SWAPPED = {**V2, "spec": "chara_card_v3", "spec_version": "3.0"}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 90, 200)).save(out, "PNG")
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    plain = picture()
    return plain[:-12] + b"".join(chunks) + plain[-12:]


def encoded(document: Any) -> bytes:
    return base64.b64encode(json.dumps(document).encode())


@pytest.mark.parametrize("document", [V1, V2, V3, SWAPPED], ids=["V1", "V2", "V3", "V2 as V3"])
def test_a_card_survives_every_container(document: dict[str, Any]) -> None:
    card = parse_card(document, "card")
    for data in (card_json(card.document), card_png(card.document, picture()), card_charx(card.document, {})):
        again = read_card_bytes(data, "again")
        assert again.name == "Pip" and again.mes_example == V1["mes_example"]
        before = document.get("data", document)
        for key, value in before.items():
            assert again.document["data"][key] == value, key
        assert {"group_only_greetings", "system_prompt", "extensions"} <= set(again.document["data"])
        # what was read from our own file is written to the same bytes
        assert card_json(again.document) == card_json(read_card_bytes(card_json(again.document), "x").document)
    assert as_v3(card.document)["spec_version"] == ("3.1" if document is V3 else "3.0")


def test_unknown_keys_outside_the_data_stay_too() -> None:
    assert read_card_bytes(card_charx(V2, {}), "x").document["create_date"] == "2024-1-1"


def test_the_picture_keeps_its_pixels_and_loses_older_cards() -> None:
    old = png_with(
        chunk(b"tEXt", b"Chara\0" + encoded({"name": "Old", "description": "gone"})), chunk(b"tEXt", b"a\0b")
    )
    new = card_png(V3, old)
    assert Image.open(io.BytesIO(new)).tobytes() == Image.open(io.BytesIO(picture())).tobytes()
    assert new.lower().count(b"chara\0") == 1 and new.count(b"ccv3\0") == 1 and b"a\0b" in new
    assert read_card_bytes(new, "x").document["spec"] == "chara_card_v3"


def test_v2_loses_what_only_v3_knows() -> None:
    data = as_v2(V3)["data"]
    assert "assets" not in data and "group_only_greetings" not in data and data["somebodys_key"] == [1, {"two": None}]
    assert data["character_book"]["entries"][0]["content"] == "The gull is called Admiral Crumb."
    assert V3["data"]["character_book"]["entries"][0]["content"].startswith("@@depth")


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        ((chunk(b"tEXt", b"chara\0" + encoded({**V1, "name": "Two"})), chunk(b"tEXt", b"ccv3\0" + encoded(V3))), "Pip"),
        ((chunk(b"tEXt", b"CHARA\0" + encoded(V2)),), "Pip"),
        ((chunk(b"zTXt", b"ccv3\0\0" + zlib.compress(encoded(V3))),), "Pip"),
        ((chunk(b"iTXt", b"ccv3\0\0\0\0\0" + encoded(V3)),), "Pip"),
        ((chunk(b"iTXt", b"chara\0\1\0\0\0" + zlib.compress(encoded(V2))),), "Pip"),
    ],
    ids=["ccv3 first", "capitals", "zTXt", "iTXt", "packed iTXt"],
)
def test_text_chunks_as_programs_write_them(chunks: tuple[bytes, ...], name: str) -> None:
    assert read_card_bytes(png_with(*chunks), "x.png").name == name


def test_a_self_extracting_charx_is_read() -> None:
    assert read_card_bytes(b"#!/bin/sh\nexit 0\n" + card_charx(V3, {}), "x").name == "Pip"


def test_a_card_becomes_a_profile_and_dialogues() -> None:
    problems: list[Problem] = []
    card = parse_card(V3, "card")
    profile = card_profile(card, "card", problems)
    assert profile.persona == "Pip is a small clay robot who runs a tea cart."
    claim = kind_of("Pip", profile.text)
    assert claim is not None and claim.noun == "clay robot"
    assert (profile.voice, profile.opening) == ("warm, brief", "*waves* Hello!")
    assert profile.facts == [] and lore_of(card) == [("gull", "The gull is called Admiral Crumb.")]
    dialogues = card_dialogues(card, "card", problems)
    assert [[(t.role, t.text) for t in d.turns] for d in dialogues] == [
        [("user", "Tea?"), ("character", "Always, beep.")],
        [("user", "Rain?"), ("character", "Soon.\nA hat?")],
    ]
    assert problems == []
    assert lore_of(parse_card(V2, "c")) == [
        ("tea", "The tea cart has three wheels."), ("tea", "It squeaks in D minor."),
    ]  # fmt: skip


HEDGEHOG = ["Species: hedgehog", "Age: 9", "Likes: tea, warm rain"]


@pytest.mark.parametrize(
    "written",
    [
        '[Character("Mr. Fox"){Species("hedgehog")Age("9")Likes("tea" + "warm rain")}]',
        '[character("Mr. Fox")\n{\nSpecies("hedgehog")\nAge("9")\nLikes("tea" +\n  "warm rain")\n}]',
        'Species("hedgehog") Age("9") Likes("tea", "warm rain")',
        "{Character(Mr. Fox) Species(hedgehog) Age(9) Likes(tea + warm rain)}",
        "Species(hedgehog)\nAge(9)\nLikes(tea + warm rain)",
        "W++\n[Character(“Mr. Fox”) {Species[“hedgehog”] Age: (“9”) Likes{“tea” + “warm rain”}}]",
        "- Species('hedgehog')\n- Age('9')\n- Likes('tea' + 'warm rain')",
        "Species: hedgehog\nAge: 9\nLikes = tea + warm rain",
    ],
)
def test_attribute_lists_in_all_their_forms_are_facts(written: str) -> None:
    card = parse_card({**V1, "name": "Mr. Fox", "description": f"{written}\nMr. Fox irons newspapers."}, "card")
    notes = Notes()
    profile = convert.card_profile(card, Names.of(card.name), "card", notes).profile
    assert profile.facts == HEDGEHOG and profile.persona == "Mr. Fox irons newspapers."
    assert not any(mark in profile.about for mark in '(){}[]+"“”') and "irons newspapers" in profile.about
    assert not [entry for entry in notes.entries if not entry.taken]
    assert profile.facts[:2] == [f"{field.key.capitalize()}: {field.value}" for field in fields(written)][-3:-1]


def test_a_broken_attribute_is_passed_over_by_name_and_the_others_are_read() -> None:
    broken = '[Character("Mr. Fox") Likes("tea" + "rain" Age("9")]\nMr. Fox naps (often). "Hm," he says.'
    notes = Notes()
    card = parse_card({**V1, "name": "Mr. Fox", "description": broken, "personality": 'Mind("shy")'}, "card")
    profile = convert.card_profile(card, Names.of(card.name), "card", notes).profile
    assert profile.facts == ["Age: 9"] and profile.persona == 'Mr. Fox naps (often). "Hm," he says. Shy.'
    assert [(p.file, p.level, "Likes(" in p.problem) for p in notes.problems] == [("card description", "warning", True)]
    assert [(e.place, e.text) for e in notes.entries if not e.taken] == [("description", 'Likes("tea" + "rain"')]


@pytest.mark.parametrize(
    "prose",
    [
        "Wren (a robot) likes tea.", 'She whispers ("hm") and nods ("ok").', "The friend(s) and enemy(ies) of Wren(a).",
        'Wren("Bolt") is a robot.', 'She said ("tea")', 'Wren: "Hello."\nUser: "Tea?"', "2 + 2 = 4", "f(x) is g(y)",
        'Motto: "Tea first."', "[Scenario: a workshop]",
    ],
)  # fmt: skip
def test_brackets_and_quotes_in_prose_are_no_attributes(prose: str) -> None:
    assert attributes_as_lines(prose).text == prose


def test_a_greeting_keeps_its_actions_and_loses_its_rules() -> None:
    greeting = "***\n*bows, a few spines\ncatching the curtain*\n\n---\nGood **morning**.\n* * *\n*pours*"
    profile = card_profile(parse_card({**V1, "first_mes": greeting}, "card"), "card", [])
    assert profile.opening == "*bows, a few spines catching the curtain* Good **morning**. *pours*"
    written = parse_character_md(f"name: x\n## Opening\n{greeting}", "character.md", [])
    assert written.opening == profile.opening


def test_macros_are_resolved_by_a_whitelist() -> None:
    unknown: set[str] = set()
    text = "{{char}} and {{USER}}, <bot>; {{random:tea,rain}} {{// note}}{{getvar::x}}{{pick::a::b}} {{original}}"
    assert resolved(text, "Pip", "you", unknown) == "Pip and you, Pip; tea a"
    assert unknown == {"getvar"}
    told: list[Problem] = []
    card_profile(parse_card({**V1, "description": "A {{time}} robot."}, "c"), "card.png", told)
    assert [(p.level, "{{time}}" in p.problem) for p in told] == [("warning", True)]


@pytest.mark.parametrize(
    "book",
    [
        {"spec": "lorebook_v3", "data": {"entries": [{"keys": ["a"], "content": "One.", "enabled": True}]}},
        {
            "entries": {
                "0": {"key": ["a"], "content": "One.", "disable": False},
                "1": {"content": "Two.", "disable": True},
            }
        },
        {"entries": [{"content": "@@depth 1\nOne."}, "no entry", {"content": 3}]},
    ],
    ids=["lorebook_v3", "world info", "odd"],
)
def test_lorebooks(book: dict[str, Any]) -> None:
    assert [entry.content for entry in parse_lorebook(book, "x") if entry.enabled] == ["One."]


def test_a_folder_with_a_card_needs_no_character_md(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "character.md").unlink()
    (folder / "card.png").write_bytes(card_png(V3, picture()))
    (folder / "lorebook.json").write_text(json.dumps({"entries": {"0": {"content": "Pip counts fog."}}}))
    character = read_character(folder)
    assert character.name == "Pip" and character.class_noun == "clay robot" and "Pip counts fog." in character.facts
    assert {d.origin.split(" ")[0].split(":")[0] for d in character.dialogues} == {"dialogues.jsonl", "card.png"}
    assert character.card is not None and character.card["data"]["extensions"]["agnai/voice"] == {"kind": "x"}


def test_character_md_is_right_where_both_speak(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "other.charx").write_bytes(card_charx({**V3, "data": {**V3["data"], "name": "Someone"}}, {}))
    character = read_character(folder)
    assert character.name == "Pip" and "foggy harbour" in character.persona and character.author == "a test"
    assert character.card is not None and "description" not in character.card["data"]


def test_two_cards_are_one_too_many(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "card.json").write_bytes(card_json(V2))
    (folder / "b.charx").write_bytes(card_charx(V2, {}))
    assert "one card too many" in check_character(folder)[0].problem


def test_an_exported_bundle_keeps_what_the_card_had() -> None:
    from test_bundle import manifest

    exported = character_card(manifest(), (), V3)
    data = exported["data"]
    assert data["extensions"]["chub"] == {"id": 7} and "charforge/license" in data["extensions"]
    assert data["somebodys_key"] == [1, {"two": None}] and data["nickname"] == "Pipsqueak"
    assert data["character_book"] == V3["data"]["character_book"] and data["assets"][0]["uri"].startswith("embeded://")
    assert exported["spec"] == "chara_card_v3" and V3["data"]["assets"][0]["name"] == "main"


# chat logs

CHAT = [
    {"user_name": "Ann", "character_name": "Pip", "create_date": "2024-1-1", "chat_metadata": {}},
    {"name": "Pip", "is_user": False, "mes": "Good morning!"},
    {"name": "Ann", "is_user": True, "mes": "Tea, please."},
    {"name": "System", "is_user": False, "is_system": True, "mes": "hidden"},
    {"name": "Pip", "is_user": False, "mes": "Fog or rain?", "extra": {"image": "user/images/Pip/03.png"}},
]


def test_a_chat_log_is_a_dialogue(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "chats").mkdir()
    (folder / "chats" / "a.jsonl").write_text("\n".join(json.dumps(line) for line in CHAT))
    (dialogue,) = [d for d in read_character(folder).dialogues if d.origin.startswith("chats")]
    assert [(t.role, t.text, t.image) for t in dialogue.turns] == [
        ("character", "Good morning!", None), ("user", "Tea, please.", None), ("character", "Fog or rain?", "03"),
    ]  # fmt: skip


def test_a_long_chat_is_cut_into_conversations_and_a_foreign_line_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    lines: list[Any] = CHAT[:2] + [
        {"name": "x", "is_user": number % 2 == 0, "mes": f"line {number}"} for number in range(40)
    ]
    (folder / "dialogues.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    dialogues = read_character(folder).dialogues
    assert all(len(d.turns) <= 7 for d in dialogues) and sum(len(d.turns) for d in dialogues) == 41
    (folder / "dialogues.jsonl").write_text("\n".join(json.dumps(line) for line in [*lines, {"hello": 1}]))
    assert [(p.file, p.level, p.problem) for p in check_character(folder) if "no message" in p.problem] == [
        ("dialogues.jsonl:43", "warning", "is no message of a chat log: the rest of the log is read")
    ]


# hostile files

BOMB = chunk(b"zTXt", b"ccv3\0\0" + zlib.compress(b"A" * (64 << 20)))


def zipped(name: str, data: bytes, **changes: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        for key, value in changes.items():
            setattr(info, key, value)
        archive.writestr(info, data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no name, no description"),
        (b'{"name": "x"}', "no name, no description"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe{}\0", "not UTF-8"),
        (picture(), "without a character card"),
        (picture()[:40], "ends too early"),
        (PNG + struct.pack(">I", 0xFFFFFFFF) + b"tEXt", "ends too early"),
        (png_with(chunk(b"tEXt", b"chara\0" + b"!!!")), "not JSON|not base64|not UTF-8"),
        (png_with(chunk(b"zTXt", b"chara\0\0" + b"broken")), "damaged text chunk"),
        (png_with(BOMB), "more than 8 MB"),
        (zipped("other.json", b"{}"), "without one card.json"),
        (zipped("../card.json", b"{}"), "without one card.json"),
        (zipped("card.json", b" " * (9 << 20)), "too large"),
        (zipped("card.json", b" " * (1 << 20)), "too large"),
        (zipped("card.json", b"{}", external_attr=0o120777 << 16), "is a link"),
        (card_charx(V2, {})[:200], "damaged zip"),
    ],
)
def test_a_hostile_file_is_one_line(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        read_card_bytes(data, "x.png")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "whole", [card_png(V3, picture()), card_charx(V3, {}), card_json(V3)], ids=["png", "zip", "json"]
)
def test_torn_and_flipped_files_never_crash(whole: bytes) -> None:
    chooser = random.Random(5)
    for _ in range(400):
        data = bytearray(whole[: chooser.randrange(len(whole))] if chooser.random() < 0.4 else whole)
        for _ in range(chooser.randrange(6)):
            if data:
                data[chooser.randrange(len(data))] = chooser.randrange(256)
        try:
            read_card_bytes(bytes(data), "x")
        except InputError as error:
            assert "x" in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.text(max_size=10), JSON, max_size=4), st.dictionaries(st.text(max_size=10), JSON, max_size=4),
    st.text(max_size=40),
)  # fmt: skip
def test_whatever_a_card_holds_comes_back(extensions: dict[str, Any], others: dict[str, Any], text: str) -> None:
    data = {**others, "name": "Pip", "description": text, "extensions": extensions}
    document = {"spec": "chara_card_v3", "spec_version": "3.0", "data": data}
    for written in (card_json(document), card_png(document, picture()), card_charx(document, {})):
        again = read_card_bytes(written, "x").document["data"]
        assert {key: again[key] for key in data} == data


@settings(max_examples=60)
@given(JSON)
def test_no_document_crashes_the_reader(document: Any) -> None:
    try:
        card = parse_card({"name": "x", "description": "y", "character_book": document, "mes_example": document}, "x")
        card_profile(card, "x", [])
        parse_lorebook(document, "x")
    except InputError:
        pass


@given(st.text(max_size=200))
def test_no_text_breaks_the_macros(text: str) -> None:
    assert isinstance(resolved(text, "Pip", "you", set()), str)
