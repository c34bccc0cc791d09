"""The exact strings that stand before the model. A change here changes what every trained adapter expects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from folders import make_folder
from hypothesis import example, given
from hypothesis import strategies as st

from charforge import grammar
from charforge.character import Character, read_character
from charforge.expand.judge_prompt import unread_sentences
from charforge.room import LONG_CONTEXT, tokens_of


def character(name: str = "Wren", noun: str = "voxel person", persona: str = "", voice: str = "") -> Character:
    return Character(name, noun, persona, voice, "", (), "", "", "", (), (), Path())


WREN = character()
BO = character("Bo", "Shiba Inu dog")
MAM = character("Mam", "British Shorthair cat")


def test_system_prompt_is_pinned(tmp_path: Path) -> None:
    pip = read_character(make_folder(tmp_path / "pip"))
    assert grammar.system_prompt(pip) == (
        "You are Pip, a clay robot. "
        "Pip is a small clay robot who runs a tea cart at the edge of a foggy harbour. "
        "Pip collects lost buttons and counts everything twice. "
        'Speaks in short, warm sentences, and ends many of them with "beep".'
    )


def test_system_prompt_stays_short_whatever_the_persona() -> None:
    long = character(persona="She walks, and walks. " * 80, voice="word " * 400)
    room = long.room
    assert tokens_of(grammar.system_prompt(long)) <= tokens_of(grammar.introduction(long)) + room.persona + room.voice


def test_a_base_with_a_long_context_reads_the_whole_persona() -> None:
    persona = " ".join(f"In vault {number} she keeps the bells of a drowned village." for number in range(12))
    long = character(persona=persona, voice="She answers in whole sentences.")
    assert persona not in grammar.system_prompt(long)
    assert unread_sentences(long)[0] == "In vault 4 she keeps the bells of a drowned village."
    wide = dataclasses.replace(long, room=LONG_CONTEXT)
    assert grammar.system_prompt(wide) == f"You are Wren, a voxel person. {persona} She answers in whole sentences."
    assert unread_sentences(wide) == []
    card = dataclasses.replace(wide, about="Everything that the card says.")
    assert grammar.system_prompt(card) == "You are Wren, a voxel person. Everything that the card says."


def test_a_text_without_spaces_is_cut_at_a_sentence() -> None:
    said = "ミオは時計屋で働きます。好奇心旺盛です。雨の日は歯車を磨きます。"
    assert grammar.shortened(said, 40) == "ミオは時計屋で働きます。好奇心旺盛です。"
    assert tokens_of(grammar.shortened(said, 8)) <= 9


def test_system_prompt_without_persona_names_who_it_is() -> None:
    assert grammar.system_prompt(WREN) == "You are Wren, a voxel person."


@pytest.mark.parametrize(
    ("who", "caption", "expected"),
    [
        (WREN, "smiling, in a forest", "Wren, a voxel person, smiling, in a forest"),
        (WREN, "a voxel person, smiling", "Wren, a voxel person, smiling"),
        (WREN, "A voxel person smiling.", "Wren, a voxel person, smiling"),
        (WREN, "Wren", "Wren, a voxel person"),
        (WREN, "", "Wren, a voxel person"),
        (WREN, "portrait of Wren in a forest", "portrait of Wren, a voxel person, in a forest"),
        (WREN, "Wrenfield in the rain", "Wren, a voxel person, Wrenfield in the rain"),
        (BO, "Bo sitting on a bed", "Bo, a Shiba Inu dog, sitting on a bed"),
        (BO, "Bo the Shiba Inu, standing", "Bo, a Shiba Inu dog, standing"),
        (BO, "Bo, a Shiba Inu with a fluffy coat, lying", "Bo, a Shiba Inu dog, with a fluffy coat, lying"),
        (BO, "Bo as an adorable Shiba Inu, sitting", "Bo, a Shiba Inu dog, sitting"),
        (MAM, "Mam, a large-eyed, grey tabby cat with a bow", "Mam, a British Shorthair cat, with a bow"),
        (MAM, "Mam the queen on a throne", "Mam, a British Shorthair cat, the queen on a throne"),
    ],
)
def test_caption_with_name_is_pinned(who: Character, caption: str, expected: str) -> None:
    assert grammar.caption_with_name(who, caption) == expected


@given(st.text(max_size=80))
@example("0\r.")
@example("0 . .")
def test_caption_with_name_names_the_character_once_and_is_stable(caption: str) -> None:
    named = grammar.caption_with_name(WREN, caption)
    assert "Wren, a voxel person" in named
    assert grammar.caption_with_name(WREN, named) == named


def test_short_caption_keeps_what_varies_and_drops_light_mood_and_lasting_traits() -> None:
    caption = "Bo sitting on a bed, furry light brown coat, ears perked up, soft indoor lighting, cozy atmosphere"
    assert grammar.short_caption(BO, caption) == "Bo, a Shiba Inu dog, sitting on a bed, ears perked up"


def test_a_comma_between_adjectives_does_not_end_a_phrase() -> None:
    assert grammar.caption_details(MAM, "Mam with wide, curious eyes, sitting") == [
        "with wide, curious eyes",
        "sitting",
    ]


def test_plan_line_is_pinned_and_splits_off_again() -> None:
    caption = "Wren, a voxel person, smiling"
    reply = grammar.with_plan("Hello there.", caption)
    assert reply == "Hello there.\n[picture: Wren, a voxel person, smiling]"
    assert grammar.split_plan(reply) == ("Hello there.", caption)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Just words.", ("Just words.", None)),
        ("Cut off.\n[picture: Wren, a voxel", ("Cut off.", "Wren, a voxel")),
        ("Twice.\n[picture: one]\n[picture: two]", ("Twice.", "one")),
        ("Talks on.\n[picture: one] and more", ("Talks on.", "one")),
        ("Nothing planned.\n[picture: ]", ("Nothing planned.", None)),
        ("[picture: only a plan]", ("", "only a plan")),
    ],
)
def test_split_plan_reads_what_a_model_may_write(reply: str, expected: tuple[str, str | None]) -> None:
    assert grammar.split_plan(reply) == expected


@given(st.text(alphabet=st.characters(exclude_characters="[]"), max_size=60), st.text(max_size=60))
def test_plan_round_trip(reply: str, caption: str) -> None:
    text, plan = grammar.split_plan(grammar.with_plan(reply, caption))
    assert text == reply.strip()
    assert plan == (" ".join(caption.replace("[", "(").replace("]", ")").split()) or None)


def test_picture_prompt_is_pinned() -> None:
    reply = 'By my left spanner, "it" works! I told you so.\n[picture: smiling, in a workshop]'
    assert grammar.picture_prompt(WREN, "smiling, in a workshop", reply) == (
        "Wren, a voxel person, smiling, in a workshop. \"By my left spanner, 'it' works! I told you so.\""
    )


def test_picture_prompt_quotes_whole_sentences_of_a_long_reply() -> None:
    reply = "First sentence of seven words is here. " + "and on " * 40
    prompt = grammar.picture_prompt(WREN, "Wren, a voxel person, smiling", reply)
    assert prompt == 'Wren, a voxel person, smiling. "First sentence of seven words is here."'


def test_picture_without_caption_has_a_plain_one(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "images" / "01.txt").unlink()
    pip = read_character(folder)
    assert grammar.picture_caption(pip, pip.pictures[0]) == "a picture of Pip, a clay robot"
    assert grammar.picture_caption(pip, pip.pictures[1]) == "Pip, a clay robot, sad, wearing a red hat, on a beach"


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("voxel person", "a voxel person"),
        ("old robot", "an old robot"),
        ("unicorn", "a unicorn"),
        ("honest fox", "an honest fox"),
        ("the moon", "the moon"),
    ],
)
def test_article(noun: str, expected: str) -> None:
    assert grammar.with_article(noun) == expected


@given(st.text(max_size=300), st.integers(1, 40))
def test_shortened_never_exceeds_its_budget(text: str, tokens: int) -> None:
    short = grammar.shortened(text, tokens)
    # a word is not cut, and a full stop may be added
    assert tokens_of(short) <= tokens + 1 or len(short.split()) == 1


A_AND_AN = """
    a three-legged goat | a one-eyed pirate | a two-headed dragon | a nine-tailed fox | a 3-legged goat
    a two headed dragon | a one eyed pirate | a one man band | a ten year old girl | a her-and-his towel
    an X-ray technician | an FBI agent | an MI6 agent | an NPC | an npc | an HR manager | an SUV | an MMORPG player
    an F-16 pilot | an F1 driver | an S-rank adventurer | an e-girl | an A-list actor | an Xbox | an LAPD officer
    a NASA engineer | a NATO general | a SWAT officer | a UFO hunter | a UN envoy | a U-boat | a UNESCO envoy
    a CIA agent | a T-shirt | a K-pop idol | a PR manager | a HERO | a ROBOT | a RED FOX | a LYNX | an FBI AGENT
    an 8-bit hero | an 18th-century duchess | an 11-year-old | a 110-year-old | an 80s kid | an 1800s gunslinger
    a 1,800-year-old vampire | an 18,000-year-old elf | a 2B android
    a European | a unicorn | an uninvited guest | an unimpressed cat | a used robot | an usher | an ugly duckling
    a Ukrainian | a eunuch | an Ewok | an oni | a once-famous star | an honest thief | an heiress | a hedgehog
    an hourglass | an élite soldier | an "evil" twin | a St. Bernard | a McDonald's worker | a sphinx | a xylophone
"""


@pytest.mark.parametrize(
    "expected", [phrase.strip() for phrase in A_AND_AN.replace("\n", "|").split("|") if phrase.strip()]
)
def test_the_article_goes_by_how_the_word_is_spoken(expected: str) -> None:
    assert grammar.with_article(expected.partition(" ")[2]) == expected


@pytest.mark.parametrize(
    "noun",
    ["the Archivist", "three goats", "two small robots in a coat", "my brother", "one robot", "one of the guards",
     "3 cats", "four wise men", "a robot", "An old robot"],
)  # fmt: skip
def test_an_article_or_a_number_of_things_stays_alone(noun: str) -> None:
    assert grammar.with_article(noun) == noun


def test_shortened_leaves_a_short_text_alone() -> None:
    assert grammar.shortened("Three words here", 3) == "Three words here"
    assert grammar.shortened("One two three, four five six seven", 5) == "One two three."


def test_question_forms_are_pinned() -> None:
    assert grammar.is_this("Wren") == "Is this Wren?"
    assert grammar.where_is("Wren") == "Where is Wren?"
    assert grammar.what_is_doing("Wren", "wearing") == "What is Wren wearing?"
    assert grammar.is_it("Wren", "in a forest") == "Is Wren in a forest?"
    assert grammar.shows("a red kite") == "Does the picture show a red kite?"
    assert grammar.yes("Wren is here") == "Yes, Wren is here."
    assert grammar.no("Wren is there") == "No, Wren is there."


@pytest.mark.parametrize(
    "text", ["We met Mr. Fox and J. R. Hartley at noon", "Ask Capt. Mox or Samuel L. Jackson first"]
)
def test_shortened_does_not_cut_behind_a_title_or_an_initial(text: str) -> None:
    cuts = {grammar.shortened(text, tokens) for tokens in range(3, 14)}
    assert len(cuts) > 4 and not any(cut.endswith((" Mr.", " J.", " R.", " Capt.", " L.")) for cut in cuts)
    assert not any(".." in cut for cut in cuts)
