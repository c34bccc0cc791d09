"""Lines "Key: value" among the prose of character.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_names import folder_of

from charforge import grammar
from charforge.character import read_folder
from charforge.character.profile import Profile, parse_character_md
from charforge.expand.knowledge import questions


def parsed(text: str) -> Profile:
    problems: list = []  # type: ignore[type-arg]
    profile = parse_character_md(text, "character.md", problems)
    assert not problems
    return profile


def test_fields_of_the_prose_are_facts_and_questions(tmp_path: Path) -> None:
    text = (
        "Name: Biscuit\n\nBiscuit is a clown in a small circus.\n\nLikes: bread crusts, applause\nAge: 7\n"
        "**Weight:** 31 kg\n\nHe sleeps in a drum.\n"
    )
    reading = read_folder(folder_of(tmp_path, text))
    character = reading.character
    assert character is not None and not reading.errors and character.name == "Biscuit"
    assert character.facts == ("Likes: bread crusts, applause", "Age: 7", "Weight: 31 kg")
    asked = {question: answer for question, answer, _ in questions(character)}
    assert asked["What do you like?"] == "I like bread crusts and applause."
    assert asked["How old are you?"] == "I am 7 years old."
    assert asked["How much do you weigh?"] == "I weigh 31 kg."
    assert asked["Where do you sleep?"] == "I sleep in a drum."
    prompt = grammar.system_prompt(character)
    assert "Likes: bread crusts, applause. Age: 7. Weight: 31 kg." in prompt and "Name:" not in prompt


@pytest.mark.parametrize(
    "prose",
    [
        "Biscuit loves three things in\nlife: bread and naps.",
        "Remember: bread first.",
        "He knows one rule: never run.",
        "His motto: he never runs.",
        "Biscuit: honk honk",
        "Note: bites.",
        'Catchphrase: "Honk!"',
        "User: hello there",
        "Magic: she talks to moths at night.",
        "It began at 12:30 in the tent.",
        "Two friends: Nell and Hob",
        "Biscuit sells bread: black and white",
        "Honey smells nice: sweet and warm",
        "See https://example.org for more.",
    ],
)
def test_sentences_with_a_colon_are_prose(prose: str) -> None:
    profile = parsed(f"---\nname: Biscuit\n---\nBiscuit is a clown.\n\n{prose}\n")
    assert profile.persona == f"Biscuit is a clown. {' '.join(prose.split())}" and not profile.facts


def test_a_field_in_bullets_over_two_lines_and_in_other_scripts() -> None:
    profile = parsed("# Pip\n- Likes: tea,\n  rain\n- Home: a tree\n\nГлаза: зелёные\nВозраст: 7\n好き： お茶\n")
    assert profile.facts == ["Likes: tea, rain", "Home: a tree", "Глаза: зелёные", "Возраст: 7", "好き: お茶"]
    # nothing else says who it is
    assert profile.persona.startswith("Likes: tea, rain. Home: a tree. Глаза: зелёные.")


def test_fields_with_a_place_of_their_own() -> None:
    profile = parsed(
        "Name: Bo\nSpecies: Shiba Inu\nClass: dog\nVoice: Gruff. Short sentences.\nPersonality: kind, loud\n"
    )
    assert (profile.name, profile.breed, profile.class_noun) == ("Bo", "Shiba Inu", "dog")
    assert (profile.voice, profile.persona, profile.facts) == (
        "Gruff. Short sentences.",
        "Personality: kind, loud.",
        [],
    )


def test_a_second_name_is_told_and_the_first_is_right() -> None:
    profile = parsed("---\nname: Dr. Julia Kowal\n---\nName: Julia\n\nJulia is a beekeeper.")
    assert profile.name == "Dr. Julia Kowal" and profile.unread == [(1, "Name: Julia")]
    assert parsed("# Name: Bo\nBo is a dog.").name == "Bo"


def test_fields_of_the_appearance_are_facts_and_stay() -> None:
    profile = parsed("# Bo\nBo is a dog.\n\n## Appearance\nBo has a curly tail.\nHeight: 40 cm\nWeight: 9 kg\n")
    assert profile.appearance == "Bo has a curly tail. Height: 40 cm. Weight: 9 kg."
    assert profile.facts == ["Height: 40 cm", "Weight: 9 kg"]
