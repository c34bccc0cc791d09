"""What the character knows: which questions rules ask, and what they answer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st

from charforge.character import Character, read_character
from charforge.expand import expand
from charforge.expand.knowledge import questions as knowledge_questions
from charforge.expand.knowledge import told_by_name
from charforge.expand.persons import first_person
from charforge.expand.statements import claims, said_newly


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ('Bo often refers to his owner as "the hooman"', 'I often refer to my owner as "the hooman".'),
        ("Bo is a dog.", "I am a dog."),
        ("Bo's tail is curly.", "My tail is curly."),
        ("Bo watches the fridge.", "I watch the fridge."),
        ("Bo carries himself well.", "I carry myself well."),
        ("Bo was born in 2015.", "I was born in 2015."),
        ("Bo can swim.", "I can swim."),
        ("Bo runs the house and approaches life gladly.", None),
        ("Bo likes it when he is fed.", None),
        ("The cat next door is loud.", None),
    ],
)
def test_the_first_person_is_used_only_where_it_is_sure(fact: str, expected: str | None) -> None:
    assert first_person(fact, "Bo") == expected


def test_facts_become_questions(pip: Character) -> None:
    asked = {question: said for question, said, _ in knowledge_questions(pip)}
    assert asked["Who are you?"] == "I am Pip, a clay robot."
    assert asked["Who built you?"] == "I was built by a potter named Ottoline."
    assert asked["Where does Pip live?"] == "Pip lives in a tea cart by the harbour."
    assert asked["What do you never drink?"] == "I never drink coffee."
    assert asked["Who is your best friend?"] == "My best friend is a gull called Admiral Crumb."
    assert asked["How old are you?"] == "I am nine years old."
    assert asked["Tell me about the tea cart."] == "The tea cart has three wheels and a bell."


def test_facts_are_asked_for_in_short(pip: Character) -> None:
    told = [pair for pair in expand(pip).pairs if pair.task == "knowledge"]
    asked = {pair.texts("user")[-1]: pair.texts("assistant")[-1] for pair in told}
    assert asked["In short, who is your best friend?"] == "A gull called Admiral Crumb."
    assert asked["In short, where does Pip live?"] == "In a tea cart by the harbour."


def test_what_an_answer_says_newly() -> None:
    assert said_newly("What are you allergic to?", "I am allergic to feathers.") == "feathers."
    assert said_newly("What is Wren's rival?", "Wren's rival is Doctor Plume.") == "Doctor Plume."
    assert said_newly("What do you look like?", "Brown skin, round glasses.") == ""
    assert said_newly("Tell me about Bolt.", "Bolt is a robot.") == ""
    assert said_newly("Can you swim?", "Yes, I can swim.") == ""


def test_wrong_claims_mix_facts_that_are_built_alike() -> None:
    asked = [
        ("What is your home?", "My home is a lighthouse.", "facts:1"),
        ("What is your wish?", "My wish is a boat.", "facts:2"),
        ("What is your birthday?", "My birthday is on Monday.", "facts:3"),
        ("What do you keep?", "I keep a cat.", "facts:4"),
        ("Who are you?", "I am a robot.", "class"),
    ]
    made = {question: said for question, said, _ in claims(asked, random.Random(0))}
    assert made == {
        "Is it true that your home is a lighthouse?": "Yes, my home is a lighthouse.",
        "Is it true that your home is a boat?": "No, my home is a lighthouse.",
        "Is it true that your wish is a boat?": "Yes, my wish is a boat.",
        "Is it true that your wish is a lighthouse?": "No, my wish is a boat.",
    }


def test_a_persona_is_told_by_name_while_it_is_surely_the_characters() -> None:
    said = "It rains. They nap. Bo is a dog. He naps a lot. His tail curls. Ann is his owner. She works. Bo likes it."
    assert told_by_name(said, "Bo") == ["Bo is a dog.", "Bo naps a lot.", "Bo's tail curls.", "Bo likes it."]


def test_every_fact_is_asked_for(pip: Character) -> None:
    origins = {origin for _, _, origin in knowledge_questions(pip)}
    assert {f"facts:{n}" for n in range(1, len(pip.facts) + 1)} <= origins


@given(st.text(max_size=80))
def test_no_fact_breaks_the_questions(fact: str) -> None:
    for said in (fact, f"Pip {fact}", f"Pip's {fact}"):
        character = Character("Pip", "clay robot", said, "", said, (said,), "", "", "", (), (), Path())
        for question, reply, _ in knowledge_questions(character):
            assert question.strip() and reply.strip()


def test_a_personas_first_sentence_is_no_fact_again_and_the_others_are() -> None:
    persona = "Ann found Bo. Bo naps in a basket."
    bo = Character("Bo", "dog", persona, "", "", (), "", "", "", (), (), Path())
    asked = {question: said for question, said, _ in knowledge_questions(bo)}
    assert asked["Where do you nap?"] == "I nap in a basket."
