"""Eight invented characters on which the expansion once went wrong: what must never be taught, and what is right.

``invented/expected.json`` says it; the faults stand for their kinds.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from charforge import grammar
from charforge.character import Character, read_character
from charforge.expand import Expansion, Pair, TextPart, expand
from charforge.expand.judge_prompt import judge_prompt, unread_sentences
from charforge.room import LONG_CONTEXT

FOLDER = Path(__file__).parent / "invented"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text("utf-8"))
NAMES = [name for name in EXPECTED if name != "all"]


@pytest.fixture(scope="module")
def characters() -> dict[str, Character]:
    return {name: read_character(FOLDER / name) for name in NAMES}


@pytest.fixture(scope="module")
def expansions(characters: dict[str, Character]) -> dict[str, Expansion]:
    strangers = {"base:0": "a voxel robot, in a forest", "base:1": "a potted sprout"}
    return {name: expand(character, strangers=strangers) for name, character in characters.items()}


def said(pair: Pair) -> str:
    return "\n".join(part.text for part in pair.parts if isinstance(part, TextPart))


@pytest.mark.parametrize("name", NAMES)
def test_what_must_never_be_taught_is_in_no_pair(expansions: dict[str, Expansion], name: str) -> None:
    for words in EXPECTED[name].get("never_in_pairs", []):
        assert [said(pair) for pair in expansions[name].pairs if words in said(pair)] == []


@pytest.mark.parametrize("name", NAMES)
def test_plans_and_captions_claim_nothing_that_nobody_wrote(expansions: dict[str, Expansion], name: str) -> None:
    pairs = expansions[name].pairs
    assert not any(pair.task == "roleplay_plan" for pair in pairs)
    for pair in pairs:
        if pair.task != "roleplay_request":
            assert "[picture:" not in said(pair)
    bare = {said(pair) for pair in pairs if pair.task == "text_to_image"}
    assert 1 <= len(bare) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_requests_never_outnumber_the_characters_own_dialogues(
    characters: dict[str, Character], expansions: dict[str, Expansion], name: str
) -> None:
    requests = [pair for pair in expansions[name].pairs if pair.task == "roleplay_request"]
    assert len(requests) <= len(characters[name].dialogues)


@pytest.mark.parametrize("name", NAMES)
def test_yes_or_no_is_answered_so_and_i_stay_i(
    characters: dict[str, Character], expansions: dict[str, Expansion], name: str
) -> None:
    for pair in expansions[name].pairs:
        if pair.task not in ("knowledge", "vqa"):
            continue
        question, answer = pair.texts("user")[-1], pair.texts("assistant")[-1]
        if re.match(r"(?:Is|Are|Do|Does|Can)\b", question):
            assert re.match(r"(?:Yes|No), ", answer), (question, answer)
        if pair.task == "knowledge" and answer.startswith(("I ", "My ")):
            later = answer.split(" who ")[0]
            assert not re.search(r"\b(?:[Hh]e|[Ss]he|[Hh]is|[Hh]ers?)\b", later), answer


@pytest.mark.parametrize("name", [name for name in NAMES if "yes_no_answers_begin_with" in EXPECTED[name]])
def test_yes_and_no_begin_as_expected(expansions: dict[str, Expansion], name: str) -> None:
    asked = [
        pair.texts("assistant")[-1]
        for pair in expansions[name].pairs
        if pair.task == "knowledge" and re.match(r"(?:Is|Are|Do|Does|Can)\b", pair.texts("user")[-1])
    ]
    assert asked and all(answer.startswith(tuple(EXPECTED[name]["yes_no_answers_begin_with"])) for answer in asked)


def test_a_character_that_speaks_japanese_is_taught_no_english(expansions: dict[str, Expansion]) -> None:
    for pair in expansions["Mio"].pairs:
        assert not re.search(r"[A-Za-z]{2,}", said(pair)), said(pair)


def test_a_base_with_a_long_context_reads_the_whole_of_the_archivist(characters: dict[str, Character]) -> None:
    archivist = characters["Archivist"]
    wide = replace(archivist, room=LONG_CONTEXT)
    for words in EXPECTED["Archivist"]["must_stand_in_system_prompt_of_large_base"]:
        assert words in grammar.system_prompt(wide)
        assert words not in grammar.system_prompt(archivist)
    assert judge_prompt(wide, "bagel") == []
    (told,) = judge_prompt(archivist, "mini")
    assert told.level == "warning" and unread_sentences(archivist)[0][:40] in told.problem


def test_facts_of_the_prose_are_asked_for(expansions: dict[str, Expansion]) -> None:
    asked = {
        pair.texts("user")[-1]: pair.texts("assistant")[-1]
        for expansion in expansions.values()
        for pair in expansion.pairs
        if pair.task == "knowledge"
    }
    assert asked["Who is your coach?"] == "My coach is called Hanne."
    assert asked["Where did you grow up?"] == "I grew up above my aunt's bakery with four sisters."
    assert asked["What is your face like?"] == "My face is a canvas for my moods."
    assert asked["Tell me about your grandmother."] == "My grandmother hid the family library under a pond."
    assert asked["Where were you rescued from?"] == "I was rescued from an ice-cream lorry."
