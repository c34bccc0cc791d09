"""Lorebook entries in a conversation: called by their keys, within a budget, whatever a hostile card writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conversation import conversation

from charforge.chat.conversation import Conversation
from charforge.chat.lore import Entry, Lorebook, called_for, card_lorebook
from charforge.chat.memory import LORE_CONTEXT
from charforge.chat.messages import Message


def words(text: str) -> int:
    return len(text.split())


def book(*rows: dict[str, Any], **of_book: object) -> Lorebook:
    return card_lorebook({"data": {"character_book": {"entries": list(rows), **of_book}}}, "Wren")


def called(lore: Lorebook, *said: str, room: int = 100) -> list[str]:
    return called_for(lore, said, words, room)


def test_an_entry_comes_when_one_of_its_keys_occurs() -> None:
    lore = book(
        {"keys": ["harbour", "Quay"], "content": "The harbour is {{char}}'s."}, {"keys": ["x"], "content": "no"}
    )
    assert called(lore, "Let us meet at the quay") == ["The harbour is Wren's."]
    assert called(lore, "Let us meet") == []


@pytest.mark.parametrize(
    ("row", "said", "comes"),
    [
        ({"keys": ["Bolt"], "case_sensitive": True}, "a bolt", False),
        ({"keys": ["bolt"], "enabled": False}, "a bolt", False),
        ({"keys": [], "constant": True}, "anything", True),
        ({"keys": ["sea"], "selective": True, "secondary_keys": ["storm"]}, "the sea", False),
        ({"keys": ["sea"], "selective": True, "secondary_keys": ["storm"]}, "a storm at sea", True),
        ({"keys": ["sea"], "selective": False, "secondary_keys": ["storm"]}, "the sea", True),
        ({"keys": ["/b(ol|al)ts?/i"], "use_regex": True}, "BALTS", True),
        ({"keys": ["b(olt"], "use_regex": True}, "b(olt", False),
        ({"keys": "sea"}, "sea", False),
    ],
)
def test_the_rules_of_the_card(row: dict[str, Any], said: str, comes: bool) -> None:
    assert bool(called(book({"content": "fact", **row}), said)) is comes


def test_order_depth_recursion_and_budget() -> None:
    rows = [
        {"keys": ["sea"], "content": "second two", "insertion_order": 2, "priority": 1},
        {"keys": ["sea"], "content": "first lighthouse", "insertion_order": 1, "priority": 5},
        {"keys": ["lighthouse"], "content": "third", "insertion_order": 3},
    ]
    assert called(book(*rows), "the sea") == ["first lighthouse", "second two"]
    assert called(book(*rows, recursive_scanning=True), "the sea") == ["first lighthouse", "second two", "third"]
    assert called(book(*rows, token_budget=2), "the sea") == ["first lighthouse"]
    assert called(book(*rows), "the sea", room=3) == ["first lighthouse"]
    assert called(book(*rows, scan_depth=1), "the sea", "no") == []


def test_patterns_that_take_for_ever_call_for_nothing_and_end_soon() -> None:
    rows = [{"keys": ["(a+)+$"], "use_regex": True, "content": "never"}] * 20
    # without a limit they would outlast the machine, and this test with them
    assert called(book(*rows), "a" * 5000 + "!") == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["keys", "content", "secondary_keys", "selective", "constant", "use_regex", "insertion_order", "priority"]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), ANYTHING)), ANYTHING, ANYTHING, st.text(max_size=30))
def test_no_book_breaks_it(rows: list[dict[str, Any]], depth: Any, budget: Any, said: str) -> None:
    lore = book(*rows, scan_depth=depth, token_budget=budget, recursive_scanning=True)
    assert sum(map(words, called(lore, said, room=10))) <= 10
    assert card_lorebook({"data": depth}, "Wren") == card_lorebook({}, "Wren") == Lorebook()


def test_it_stands_before_what_was_said_last_and_small_bases_go_without() -> None:
    lore = Lorebook((Entry(("forest",), "red coat"),))
    for context, given_lore in ((LORE_CONTEXT, True), (LORE_CONTEXT - 1, False)):
        talk = conversation(context=context)
        talk = Conversation(replace(talk.session, lore=lore))
        talk.messages = [Message("user", "Hi"), Message("assistant", "Yes"), Message("user", "In a forest ?")]
        parts = talk._memory.parts(talk.messages, 8)
        assert (parts[-2] == talk.session.base.model.text("red coat", "system")) is given_lore
        assert len(parts) == (5 if given_lore else 4)
