"""What the fuzzer found, one test each: it must not come back."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
from bundle_parts import png
from card_files import card_json
from folders import make_folder
from fuzz_readers import limited

from charforge.bundle import read_bundle
from charforge.character import Character, read_folder
from charforge.character.cards import read_card
from charforge.character.json_text import MAX_DEPTH, parse_json
from charforge.errors import InputError

CARD = {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "Pip", "description": "A robot."}}


def nested(depth: int) -> object:
    value: object = None
    for _ in range(depth):
        value = [value]
    return value


def written(character: Character) -> str:
    """The character as a file would hold it: fails for a lone surrogate anywhere in it, the ledger included."""
    return json.dumps(asdict(character), ensure_ascii=False, default=str).encode("utf-8").decode("utf-8")


def test_json_is_parsed_no_deeper_than_it_can_be_copied() -> None:
    assert parse_json(json.dumps(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    assert parse_json(json.dumps([[]] * 5000)) == [[]] * 5000
    for depth in (MAX_DEPTH + 1, 900, 90_000):
        with pytest.raises(json.JSONDecodeError, match="nested too deeply"):
            parse_json("[" * depth + "]" * depth)


def test_a_card_with_a_deep_key_is_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    document = {**CARD, "data": {**CARD["data"], "extensions": nested(400)}}  # type: ignore[dict-item]
    (folder / "card.json").write_text(json.dumps(document))
    assert any("not JSON" in problem.problem for problem in read_folder(folder).errors)


def test_a_zip_with_a_nameless_member_is_no_crash(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x"), png())
        archive.writestr("card.json", card_json(CARD))
    # zipfile refuses to write an empty name, others do not
    (tmp_path / "a.charx").write_bytes(out.getvalue().replace(b"\x01\x00\x00\x00x", b"\x00\x00\x00\x00"))
    (tmp_path / "b.charx").write_bytes(out.getvalue().replace(b"x\x89PNG", b"\0\x89PNG"))
    for name in ("a.charx", "b.charx"):
        with pytest.raises(InputError):
            read_bundle(tmp_path / name)
        try:
            assert read_card(tmp_path / name).name == "Pip"
        except InputError as error:
            assert "zip" in str(error)


def test_half_characters_get_neither_into_captions_nor_into_the_ledger(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "images/01.txt").unlink()
    rows = [{"file_name": "01.png", "text": "smiling \ud800"}, {"file_name": "no.png", "text": "\udfff lost"}]
    (folder / "images/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    messages = [
        {"name": "Pip", "is_user": False, "mes": "Beep."}, {"name": "You", "is_user": True, "mes": "Tea?"},
        {"name": "Pip", "is_user": False, "mes": "Soon."},
        {"name": "Gull\ud800", "is_user": False, "mes": "Kraa \ud800"},
        {"odd\ud800": "\ud800"}, ["\ud800"],
    ]  # fmt: skip
    (folder / "chats").mkdir()
    (folder / "chats/a.jsonl").write_text("\n".join(map(json.dumps, messages)))
    reading = read_folder(folder)
    assert reading.character is not None and reading.character.picture("01").caption == "smiling"
    assert "Kraa" in written(reading.character)
    for problem in reading.problems:
        assert "\n" not in problem.problem
        f"{problem.problem}{problem.remedy}".encode()


def test_half_characters_get_neither_into_places_nor_before_the_words_of_others(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    entry = {"uid": 0, "key": ["Gull"], "content": "The gull is loud.", "disable": False, "comment": "Gull"}
    (folder / "lorebook.json").write_text(json.dumps({"entries": {"\ud800": entry}}))
    messages = [
        {"name": "Pip", "is_user": False, "mes": "Beep."}, {"name": "You", "is_user": True, "mes": "Tea?"},
        {"name": "\ud800 Gull", "is_user": False, "mes": "Kraa."}, {"name": "Pip", "is_user": False, "mes": "Soon."},
    ]  # fmt: skip
    (folder / "Pip - 2024.jsonl").write_text("\n".join(map(json.dumps, messages)))
    character = read_folder(folder).character
    assert character is not None and character.lore
    assert "Kraa" in written(character)


def test_half_characters_do_not_get_into_what_a_card_is_written_back_as(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    document = {**CARD, "data": {**CARD["data"], "creator_notes": "x\ud800", "extensions": {"a\ud800": ["\udfff"]}}}
    (folder / "card.json").write_text(json.dumps(document))
    character = read_folder(folder).character
    assert character is not None and character.card is not None
    assert "creator_notes" in written(character)
    card_json(character.card).decode("utf-8")


@pytest.mark.parametrize("sign", ["\n", "„", "‘"])
def test_a_long_run_of_one_sign_takes_no_square_of_its_length(tmp_path: Path, sign: str) -> None:
    folder = make_folder(tmp_path / "pip")
    for name in ("character.md", "stories.md"):
        (folder / name).write_text(f"Pip is a robot. Pip is {60_000 * sign}\n", encoding="utf-8")
    # with the square: a minute or more
    with limited(30):
        assert read_folder(folder).character is not None
