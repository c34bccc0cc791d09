"""Whatever goes into a folder is in the character or in the ledger: nothing disappears.

Random folders in many formats at once. Every turn, fact, sentence, picture and caption holds a word of its own, which
must be found again on one side or the other.
"""

from __future__ import annotations

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from folders import drawing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charforge.character import Reading, read_folder


class Words:
    """Words that occur once: each is one thing that goes in."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def new(self) -> str:
        self.given.append(f"zq{len(self.given)}x")
        return self.given[-1]


@cache
def picture(number: int) -> bytes:
    out = io.BytesIO()
    drawing(number).save(out, "PNG")
    return out.getvalue()


Draw = Any
SPEAKERS = ("User", "Wren", "You", "Ann", "Captain Mox", "{{user}}", "{{char}}", "Wren (tired)", "Machine")
SUBJECTS = ("Wren", "Ottilie", "She", "The lamp", "Wren's kettle", "Nobody")


def sentence(draw: Draw, words: Words) -> str:
    long = " and then again" * draw(st.sampled_from((0, 0, 0, 14)))
    return f"{draw(st.sampled_from(SUBJECTS))} keeps {words.new()}{long}."


def prose(draw: Draw, words: Words, most: int = 4) -> str:
    return " ".join(sentence(draw, words) for _ in range(draw(st.integers(1, most))))


def said(draw: Draw, words: Words) -> str:
    """Words of a turn: plain, with an action, with what a front end puts around them, on two lines."""
    form = draw(st.sampled_from((
        "{}", "{} indeed, apprentice.", "*nods* {}", "<b>{}</b>", "{} ![](https://x.test/a.png)", "{}\nand so on",
        "{{{{user}}}} asks for {}", "<think>hm</think>{}", "Note: {}", "{} [image: 02]", "Tea: {}\nMe: again",
    )))  # fmt: skip
    return form.format(words.new())


def front_matter(draw: Draw, words: Words) -> str:
    parts = ["---\nname: Wren\nclass: robot\n---", prose(draw, words)]
    for title in draw(st.lists(st.sampled_from(("Voice", "Appearance", "Secrets", "Persona", "Facts")), max_size=3)):
        parts += [f"## {title}", prose(draw, words)]
    return "\n\n".join(parts) + "\n"


def fact_list(draw: Draw, words: Words) -> str:
    forms = ("- {}", "{}", "* {}", "  {}", "# heading\n- {}", "- Age: {}")
    lines = [draw(st.sampled_from(forms)).format(sentence(draw, words)) for _ in range(draw(st.integers(1, 5)))]
    return "\n".join(lines) + "\n"


def records(draw: Draw, words: Words) -> list[dict[str, Any]]:
    """Turns as {"role", "text"} in any order, one-sided ones too."""
    turns = []
    for _ in range(draw(st.integers(1, 5))):
        role = draw(st.sampled_from(("user", "assistant", "assistant", "system", "tool", "user")))
        turn: dict[str, Any] = {"role": role, "content": said(draw, words)}
        if draw(st.integers(0, 5)) == 0:
            turn["name"] = draw(st.sampled_from(("Wren", "Captain Mox")))
        turns.append(turn)
    return turns


def conversations(draw: Draw, words: Words) -> str:
    kind = draw(st.sampled_from(("own", "messages", "sharegpt", "alpaca", "array", "list", "torn")))
    rows: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        turns = records(draw, words) if kind != "alpaca" else []
        if kind == "sharegpt":
            names = {"assistant": "gpt", "user": "human"}
            row: Any = {"conversations": [
                {"from": names.get(t["role"], t["role"]), "value": t["content"]} for t in turns
            ]}  # fmt: skip
        elif kind == "alpaca":
            row = {"instruction": said(draw, words), "input": said(draw, words), "output": said(draw, words)}
        elif kind == "list":
            row = turns
        elif kind == "own":
            row = {"turns": [{"role": t["role"], "text": t["content"]} for t in turns]}
        else:
            row = {"messages": turns}
        rows.append(row)
    if kind == "array":
        return json.dumps(rows, indent=1)
    text = "\n".join(json.dumps(row) for row in rows)
    return text + '\n{"turns": [{"role": "user", "te' if kind == "torn" else text


def text_log(draw: Draw, words: Words) -> str:
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(
            st.sampled_from((*(f"{name}: " for name in SPEAKERS), "", "**Wren:** ", "[10:02] Ann: ", "Wren："))
        )
        lines.append(start + said(draw, words))
        lines += draw(st.sampled_from(([], [], [""], ["---"], ["## Wren"])))
    return "\n".join(lines)


def chat(draw: Draw, words: Words) -> str:
    lines: list[Any] = [{"user_name": "Ann", "character_name": "Wren", "chat_metadata": {}}]
    for _ in range(draw(st.integers(1, 10))):
        line: dict[str, Any] = {
            "name": draw(st.sampled_from(("Ann", "Wren", "Wren", "Captain Mox", "System"))),
            "is_user": draw(st.booleans()), "is_system": draw(st.booleans()), "mes": said(draw, words),
        }  # fmt: skip
        if draw(st.integers(0, 4)) == 0:
            line["extra"] = {"type": draw(st.sampled_from(("narrator", "comment", "x")))}
        versions = draw(st.sampled_from(("one", "one", "one", "swipes", "only swipes")))
        if versions != "one":
            line["swipes"], line["swipe_id"] = [line["mes"], said(draw, words)], 0
        if versions == "only swipes":
            line["mes"] = None
        lines.append(line)
    return "\n".join(json.dumps(line) for line in lines)


def other_chat(draw: Draw, words: Words) -> Any:
    turns = [(draw(st.booleans()), said(draw, words)) for _ in range(draw(st.integers(1, 6)))]
    return draw(st.sampled_from((
        {"type": "risuChat", "ver": 2, "data": {"message": [
            {"role": "user" if mine else "char", "data": text} for mine, text in turns]}},
        {"messages": [{"msg": text, **({"userId": "1"} if mine else {"characterId": "2"})} for mine, text in turns]},
        {"gamestarted": True, "prompt": "", "actions": [
            ("\n{{[INPUT]}}\n" if mine else "\n{{[OUTPUT]}}\n") + text for mine, text in turns]},
        {"gamestarted": True, "savedsettings": {"chatname": "Ann"}, "actions": [
            ("\nAnn: " if mine else "\nWren: ") + text for mine, text in turns]},
        {"visible": [[text, "yes"] for _, text in turns]},
        {"histories": {"histories": [{"msgs": [
            {"src": {"is_human": mine}, "text": text} for mine, text in turns]}]}},
        {"chat": [("You: " if mine else "Wren: ") + text for mine, text in turns]},
    )))  # fmt: skip


def lorebook(draw: Draw, words: Words) -> Any:
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        content = prose(draw, words) if draw(st.booleans()) else f"Name: {words.new()}\nAge: {words.new()}"
        title = draw(st.sampled_from(("", "Ottilie", "Wren")))
        keys = draw(st.sampled_from(([], ["lamp"], ["Wren"])))
        rows.append((content, title, keys, draw(st.booleans())))
    return draw(st.sampled_from((
        {"entries": {str(n): {"content": c, "comment": t, "key": k, "disable": not on}
                     for n, (c, t, k, on) in enumerate(rows)}},
        {"lorebookVersion": 5, "entries": [
            {"text": c, "displayName": t, "keys": k, "enabled": on} for c, t, k, on in rows]},
        {"kind": "memory", "name": "b", "entries": [
            {"entry": c, "name": t, "keywords": k, "enabled": on} for c, t, k, on in rows]},
        {"type": "risu", "ver": 1, "data": [
            {"content": c, "comment": t, "key": ", ".join(k), "alwaysActive": False} for c, t, k, _ in rows]},
    )))  # fmt: skip


def card(draw: Draw, words: Words) -> Any:
    examples = "<START>\n".join(text_log(draw, words) + "\n" for _ in range(draw(st.integers(0, 2))))
    return {"spec": "chara_card_v2", "spec_version": "2.0", "data": {
        "name": "Wren", "description": f"{prose(draw, words)}\nLikes: {words.new()}\n{prose(draw, words)}",
        "personality": prose(draw, words, 1), "scenario": prose(draw, words, 1), "first_mes": said(draw, words),
        "mes_example": examples, "alternate_greetings": [said(draw, words)], "creator_notes": prose(draw, words, 1),
        "character_book": {"entries": [{"keys": ["lamp"], "content": prose(draw, words), "enabled": True}]},
    }}  # fmt: skip


@st.composite
def folders(draw: Draw) -> tuple[dict[str, str | bytes], list[str]]:
    """Files of a folder by name, and the words that went in."""
    words, files = Words(), dict[str, str | bytes]()
    has = st.booleans()
    with_card = draw(has)
    if draw(has) or not with_card:
        files["character.md"] = front_matter(draw, words)
    if with_card:
        files[draw(st.sampled_from(("card.json", "wren_spec_v2.json")))] = json.dumps(card(draw, words))
    for file, make in (
        ("facts.md", fact_list), ("dialogues.jsonl", conversations), ("dialogues.md", text_log),
        ("chats/a.jsonl", chat),
        ("chats/deep/b.txt", text_log), ("more.jsonl", conversations),
    ):  # fmt: skip
        if draw(has):
            files[file] = make(draw, words)
    for file, make_json in (("lorebook.json", lorebook), ("Harbour.json", lorebook), ("chats/c.json", other_chat)):
        if draw(has):
            files[file] = json.dumps(make_json(draw, words))
    for number in range(draw(st.integers(0, 4))):
        name = words.new()
        files[f"images/{name}.png"] = picture(draw(st.integers(0, 5)))
        if draw(has):
            files[f"images/{name}.txt"] = f"smiling at {words.new()}, number {number}"
    for file in ("images/{}.txt", "images/{}.svg", "{}.xyz", "{}.md", "odd/{}.txt", "chats/{}.pdf"):
        if draw(st.integers(0, 4)) == 0:
            name = words.new()
            files[file.format(name)] = name
    return files, words.given


def everything(reading: Reading) -> str:
    """All that is in the character or in the ledger, as one text in lower case."""
    who = reading.character
    texts = [f"{entry.file} {entry.text}" for entry in reading.ledger.passed_over]
    if who is not None:
        texts += [who.persona, who.voice, who.appearance, who.opening, *who.facts]
        texts += [f"{item.subject} {item.text}" for item in who.lore]
        texts += [turn.text for dialogue in who.dialogues for turn in dialogue.turns]
        texts += [f"{one.name} {one.caption}" for one in who.pictures]
    return "\n".join(texts).lower()


def check(folder: tuple[dict[str, str | bytes], list[str]]) -> None:
    files, given = folder
    with tempfile.TemporaryDirectory() as place:
        for name, content in files.items():
            path = Path(place) / "wren" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        reading = read_folder(Path(place) / "wren")
    found = everything(reading)
    lost = [word for word in given if word not in found]
    assert not lost, {word: [f"{n}: {c!r}" for n, c in files.items() if word in str(c) + n] for word in lost}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(folders())
def test_nothing_disappears(folder: tuple[dict[str, str | bytes], list[str]]) -> None:
    check(folder)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(folders())
def test_nothing_disappears_in_two_thousand_folders(folder: tuple[dict[str, str | bytes], list[str]]) -> None:
    check(folder)
