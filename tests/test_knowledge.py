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
from charforge.expand.keys import of_key
from charforge.expand.knowledge import questions as knowledge_questions
from charforge.expand.knowledge import told_by_name
from charforge.expand.persons import first_person
from charforge.expand.statements import claims, said_newly, short_answers


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
        ('Bo "Bolt" Okafor is a sprinter.', "I am a sprinter."),
        ("Bo is a dog who carries himself well.", "I am a dog who carries himself well."),
        ("Bo loves tea and is afraid of silence.", "I love tea and am afraid of silence."),
        ("Bo has sung twice and was once cast as a cow.", "I have sung twice and was once cast as a cow."),
        ("Bo boldly argues with teachers.", "I boldly argue with teachers."),
        ("Bo's mother says that Bo is loud.", None),
        ('Bo\'s friends call her "the Kettle".', None),
        ('Bo keeps her "happy place" tidy.', 'I keep my "happy place" tidy.'),
        ("I howl. He is loud.", None),
    ],
)
def test_the_first_person_is_used_only_where_it_is_sure(fact: str, expected: str | None) -> None:
    assert first_person(fact, "Bo") == expected


def test_facts_become_questions(pip: Character) -> None:
    asked = {question: said for question, said, _ in knowledge_questions(pip)}
    assert asked["Who are you?"] == "I am Pip, a clay robot."
    assert asked["Who built you?"] == "I was built by a potter named Ottoline."
    assert asked["Where do you live?"] == "I live in a tea cart by the harbour."
    assert asked["What do you never drink?"] == "I never drink coffee."
    assert asked["Who is your best friend?"] == "My best friend is a gull called Admiral Crumb."
    assert asked["How old are you?"] == "I am nine years old."
    assert asked["Tell me about the tea cart."] == "The tea cart has three wheels and a bell."


def test_facts_are_asked_for_in_short(pip: Character) -> None:
    told = [pair for pair in expand(pip).pairs if pair.task == "knowledge"]
    asked = {pair.texts("user")[-1]: pair.texts("assistant")[-1] for pair in told}
    assert asked["In a few words: who is your best friend?"] == "A gull called Admiral Crumb."
    # nobody answers "I" who is asked about Pip
    assert asked["Where does Pip live?"] == "In a tea cart by the harbour."


def test_what_an_answer_says_newly() -> None:
    assert said_newly("What are you allergic to?", "I am allergic to feathers.") == "feathers."
    assert said_newly("What is Wren's rival?", "My rival is Doctor Plume.", "Wren") == "Doctor Plume."
    assert said_newly("Who is your coach?", "My coach is called Hanne.") == "Hanne."
    assert said_newly("What do you love?", "I love macaroni and am afraid of silence.") == ""
    assert said_newly("What have you never done?", "I have never taken the stairs.") == ""
    assert said_newly("What do you look like?", "Brown skin, round glasses.") == ""
    assert said_newly("Tell me about Bolt.", "Bolt is a robot.") == ""
    assert said_newly("Can you swim?", "Yes, I can swim.") == ""


def test_wrong_claims_mix_facts_that_are_built_alike() -> None:
    asked = [
        ("What is your best tool?", "My best tool is a lighthouse.", "facts:1"),
        ("What is your worst tool?", "My worst tool is a boat.", "facts:2"),
        ("What is your wish?", "My wish is a spoon.", "facts:3"),
        ("What are you afraid of?", "I am afraid of silence.", "facts:5"),
        ("What are you allergic to?", "I am allergic to feathers.", "facts:6"),
        ("What do you keep?", "I keep a cat.", "facts:4"),
        ("Who are you?", "I am a robot.", "class"),
    ]
    made = {question: said for question, said, _ in claims(asked, random.Random(0))}
    assert made == {
        "Is it true that your best tool is a lighthouse?": "Yes, my best tool is a lighthouse.",
        "Is it true that your best tool is a boat?": "No, my best tool is a lighthouse.",
        "Is it true that your worst tool is a boat?": "Yes, my worst tool is a boat.",
        "Is it true that your worst tool is a lighthouse?": "No, my worst tool is a boat.",
        "Is it true that you are afraid of silence?": "Yes, I am afraid of silence.",
        "Is it true that you are afraid of feathers?": "No, I am afraid of silence.",
        "Is it true that you are allergic to feathers?": "Yes, I am allergic to feathers.",
        "Is it true that you are allergic to silence?": "No, I am allergic to feathers.",
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


# what is asked, and what is not


@pytest.mark.parametrize(
    ("key", "value", "second", "answer"),
    [
        ("Born", "April 8, 2001 (age 25)", "When were you born?", "I was born on April 8, 2001."),
        ("Occupation", "Athlete, Commentator", "What is your job?", "I am an athlete and a commentator."),
        ("Height", "154cm", "How tall are you?", "I am 154cm tall."),
        ("Breed", "Domestic Longhair.", "What breed are you?", "I am a Domestic Longhair."),
        ("Breed", "British Shorthair, Silver Tabby", "What breed are you?", "I am a British Shorthair."),
        ("Likes", "warm laundry, the sound of tins", "What do you like?", "I like warm laundry and the sound of tins."),
        ("Likes", "Warm laundry, Tins", "What do you like?", "I like warm laundry and tins."),
        ("Age", "4 years", "How old are you?", "I am 4 years old."),
        ("Home", "an old mill", "Where do you live?", "My home is an old mill."),
        ("Familiar", "A one-eyed owl", "What is your familiar?", "My familiar is a one-eyed owl."),
        ("Rival", "Ann", "Who is your rival?", "My rival is Ann."),
    ],
)
def test_keys_about_the_character_are_asked_for(key: str, value: str, second: str, answer: str) -> None:
    assert of_key("Pim", key, value)[0] == (second, answer)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Marco Bellini", "a portrait"),
        ("Preferred item", "Plushies, glazed cake"),
        ("Elemental burst", '"Let the Harbour Sing"'),
        ("Voiced by", "(EN) A. Example"),
        ("Increasing bond", "You increase your bond level with Lumi by"),
        ("Gender", "Female"),
        ("Height", "Plushies"),
        ("Age", "unknown"),
        ("Born", "in a storm"),
        ("Occupation", "Prime Minister"),
    ],
)
def test_other_keys_and_values_of_another_kind_are_no_questions(key: str, value: str) -> None:
    assert of_key("Lumi", key, value) == []


@given(st.sampled_from(["Age", "Born", "Likes", "Home", "Occupation", "Rival", "Motto"]), st.text(max_size=60))
def test_no_value_breaks_a_key(key: str, value: str) -> None:
    for question, answer in of_key("Pim", key, value):
        assert question.endswith("?") and answer.endswith(".")


def made_of(*facts: str, name: str = "Lumi", persona: str = "", noun: str = "regent") -> dict[str, str]:
    character = Character(name, noun, persona, "", "", facts, "", "", "", (), (), Path())
    return {question: said for question, said, _ in knowledge_questions(character)}


@pytest.mark.parametrize(
    "fact",
    [
        "Lumi became a playable character in November of the second season.",
        "She is a 5-star Tide character who wields a sword.",
        "She appears in tutorials, announcements and promotional material.",
        "Lumi's tone is less of a request.",
        "Lumi speaks in rhymes.",
        "Lumi often refers to her owner as the keeper.",
    ],
)
def test_what_is_said_of_a_work_or_of_speech_is_no_answer(fact: str) -> None:
    assert made_of(fact) == made_of()


def test_others_are_asked_about_only_where_the_fact_is_about_them() -> None:
    assert "What do you know about Wilhelm?" not in made_of("Full name: Leonardo Wilhelm Di", name="Leonardo")
    asked = made_of("Bolt is a kettle robot that Lumi built.", "Lumi learned to sing from her aunt Oda.")
    assert asked["Tell me about Bolt."] == "Bolt is a kettle robot that I built."
    assert asked["Who is Oda?"] == "I learned to sing from my aunt Oda."
    assert made_of("Bolt is afraid of Lumi.") == made_of()


def test_a_look_is_told_in_the_first_person_to_its_end() -> None:
    look = "A fluffy, red and white Siberian Husky with striking blue eyes. He is very expressive."
    koa = Character("Koa", "Siberian Husky dog", "", "", look, (), "", "", "", (), (), Path())
    asked = {question: said for question, said, _ in knowledge_questions(koa)}
    first = "I am a fluffy, red and white Siberian Husky with striking blue eyes. I am very expressive."
    assert asked["What do you look like?"] == first


def test_questions_that_ask_yes_or_no_are_answered_so(pip: Character) -> None:
    told = [pair for pair in expand(pip).pairs if pair.task == "knowledge"]
    asked = [pair for pair in told if pair.texts("user")[-1].split()[0] in ("Is", "Are", "Do", "Does", "Can")]
    assert len(asked) >= 4
    assert all(pair.texts("assistant")[-1].split()[0] in ("Yes,", "No,") for pair in asked)


@pytest.mark.parametrize(
    ("fact", "question"),
    [
        ("Her dog is called Bublik.", "What is your dog called?"),
        ("Lumi's cat is Mox.", "What is your cat called?"),
        ("Lumi's dog is a Samoyed.", "Tell me about your dog."),
        ("Lumi's dog is three years old.", "How old is your dog?"),
        ("Lumi's dog is Russian.", "Tell me about your dog."),
        ("Lumi's horses are called Max and Moritz.", "What are your horses called?"),
        ("Lumi's lute is called Old Moan.", "What is your lute called?"),
        ("Lumi's ship is named after her aunt.", "Tell me about your ship."),
        ("Lumi's house is 300 years old.", "How old is your house?"),
        ("Lumi's tail is two feet long.", "How long is your tail?"),
        ("Lumi's flat is above the bakery.", "Where is your flat?"),
        ("Lumi's shop is in a mess.", "Tell me about your shop."),
        ("Lumi's team is from Moscow.", "Where is your team from?"),
        ("Lumi's hair is in a bun.", "What is your hair like?"),
        ("Lumi's wedding is in June.", "When is your wedding?"),
        ("Lumi's weakness is cheese.", "What is your weakness?"),
        ("Lumi's camera was a gift.", "Tell me about your camera."),
        ("Lumi's coach is called Hanne.", "Who is your coach?"),
        ("Lumi's kids are three and five.", "Tell me about your kids."),
        ("Lumi's greatest invention is the tea cart.", "What is your greatest invention?"),
        ("Lumi works for the institute.", "Who do you work for?"),
        ("Lumi draws comics about spoons.", "What do you draw?"),
    ],
)
def test_a_question_fits_its_fact(fact: str, question: str) -> None:
    asked = [form for form in made_of(fact) if form not in made_of() and "Lumi" not in form]
    # one of the general forms, and its own
    assert question in asked and len(asked) == 2


@pytest.mark.parametrize(
    "fact",
    ["Lumi sings in the shower.", "Lumi paints every morning.", "Lumi eats like a horse.",
     "Lumi rides with the Mongols.", "Lumi cooks for her sister."],
)  # fmt: skip
def test_what_has_no_object_is_not_asked_for(fact: str) -> None:
    assert not [form for form in made_of(fact) if form.startswith("What do")]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What do you know about the volcano Klyuchevskaya?", "The volcano Klyuchevskaya is 4,750 m high."),
        ("What else do you know about the hut?", "The hut stands near the crater."),
        ("What do you know about the moon?", "The moon has two faces."),
        ("What can you tell me about Doctor Plume?", "Doctor Plume lives in the crater."),
        ("What do you play?", "I play the balalaika badly."),
        ("What do you teach?", "I teach children how to read rocks."),
        ("What is the moon?", "The moon hasn't two faces."),
    ],
)
def test_no_short_answer_is_a_predicate_without_its_subject(question: str, answer: str) -> None:
    assert short_answers([(question, answer, "facts:1")], "Lumi") == []


def test_her_who_is_somebody_is_not_the_owner_of_a_word() -> None:
    assert first_person("Lumi's father taught her to ski.", "Lumi") is None
    assert first_person("Lumi's father taught her dog to ski.", "Lumi") == "My father taught my dog to ski."
