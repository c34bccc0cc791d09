"""The parsers of dialogues and profiles: what they read, and that nothing breaks them."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charforge.character import Dialogue
from charforge.character.notes import Notes
from charforge.character.profile import facts_and_rest, parse_character_md, sentences
from charforge.character.readers.documents import document
from charforge.character.readers.table import read_conversations
from charforge.character.readers.text_logs import read_text_log
from charforge.character.speakers import Names
from charforge.errors import Problem


def parse_text(text: str, file: str, name: str, problems: list[Problem]) -> list[Dialogue]:
    notes = Notes(problems)
    return read_text_log(text, file, Names.of(name), notes, log=False)


def parse_jsonl(text: str, file: str, name: str, problems: list[Problem]) -> list[Dialogue]:
    notes = Notes(problems)
    return list(read_conversations(document(text, file), Names.of(name), notes).dialogues)


def test_openai_messages_are_read() -> None:
    messages = [
        {"role": "system", "content": "ignored"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Beep."},
                {"type": "image_url", "image_url": {"url": "images/04.png"}},
            ],
        },
    ]
    problems: list[Problem] = []
    (dialogue,) = parse_jsonl(json.dumps({"messages": messages}), "d.jsonl", "Pip", problems)
    assert [(t.role, t.text, t.image) for t in dialogue.turns] == [
        ("user", "Hi", None),
        ("character", "Beep.", "04"),
    ]
    assert problems == []


def test_text_dialogues_are_read_in_blocks() -> None:
    text = """# Morning
User: Hello, Pip.
How are you?
Pip: Well, beep. [image: 03]

**User:** And now?

**Pip:** Still well.
User: Good.
Pip: ![me](images/05.png) Beep: very good.
---
you: Bye.
character: Bye, beep.
"""
    problems: list[Problem] = []
    first, second, third = parse_text(text, "dialogues.md", "Pip", problems)
    assert problems == []
    assert first.turns[0].text == "Hello, Pip.\nHow are you?"
    assert (first.turns[1].text, first.turns[1].image, first.origin) == (
        "Well, beep.",
        "03",
        "dialogues.md:2",
    )
    assert [turn.text for turn in second.turns] == ["And now?", "Still well.", "Good.", "Beep: very good."]
    assert second.turns[3].image == "05" and len(third.turns) == 2


def test_turns_of_one_side_are_joined_and_a_last_question_is_dropped_with_a_warning() -> None:
    problems: list[Problem] = []
    (dialogue,) = parse_text("User: a\nUser: b\nPip: c\nUser: d", "d.md", "Pip", problems)
    assert [turn.text for turn in dialogue.turns] == ["a\nb", "c"]
    assert [problem.level for problem in problems] == ["warning"]


@given(st.text(max_size=200))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_jsonl, parse_text):
        for dialogue in parse(text, "file", "Pip", []):
            roles = [turn.role for turn in dialogue.turns]
            assert roles[-1] == "character" and "user" in roles
            assert all(one != other for one, other in itertools.pairwise(roles))
            assert all(turn.text for turn in dialogue.turns)
    parse_character_md(text, "character.md", [])
    facts_and_rest(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["turns", "role", "text", "content", "image", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_breaks_the_parser(value: object) -> None:
    parse_jsonl(json.dumps({"turns": value}), "file", "Pip", [])
    parse_jsonl(json.dumps(value), "file", "Pip", [])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["User", "Pip"]),
            st.from_regex(r"[A-Za-z]{1,9}( [a-z]{1,9}){0,4}", fullmatch=True),
        )
    )
)
def test_text_and_json_say_the_same(turns: list[tuple[str, str]]) -> None:
    written = "\n".join(f"{who}: {words}" for who, words in turns)
    records = [{"role": "user" if who == "User" else "character", "text": words} for who, words in turns]
    from_text = parse_text(written, "d", "Pip", [])
    from_json = parse_jsonl(json.dumps({"turns": records}), "d", "Pip", [])
    assert [dialogue.turns for dialogue in from_text] == [dialogue.turns for dialogue in from_json]


@given(st.text(max_size=200))
def test_sentences_lose_nothing_but_space(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Mr. Fox irons newspapers. He naps.", "Mr. Fox irons newspapers."),
        ("Capt. Mox met J. R. Hartley. They left.", "Capt. Mox met J. R. Hartley."),
        ("Samuel L. Jackson sings. Bo naps.", "Samuel L. Jackson sings."),
        ("A friend of J.R.R. Tolkien. It is old.", "A friend of J.R.R. Tolkien."),
        ("He rides the No. 5 tram. Always.", "He rides the No. 5 tram."),
        ("It was plan B. It failed.", "It was plan B."),
        ("I live at Baker St. It is wet.", "I live at Baker St."),
        ("He knows you and I. Bolt laughs.", "He knows you and I."),
        ("He was born in the U.S. He left.", "He was born in the U.S."),
        ('He said "Go." She left.', 'He said "Go."'),
    ],
)
def test_a_sentence_does_not_end_behind_a_title_or_an_initial(text: str, first: str) -> None:
    assert sentences(text)[0] == first
