"""Character -> pairs: what is asked, what is learned, what is held out."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
from folders import make_folder
from hypothesis import given
from hypothesis import strategies as st

from charforge import grammar
from charforge.character import Character, Dialogue, Turn, read_character
from charforge.errors import InputError
from charforge.expand import ImagePart, Pair, TextPart, leaked, prompt_key, read_pairs, write_pairs
from charforge.expand import expand as expand_character
from charforge.expand.pairs import similar
from charforge.expand.phrases import Phrase, phrases, surely_absent
from charforge.expand.rewording import rewordings
from charforge.expand.strangers import what_it_shows
from charforge.kinds import TALK, TASKS

STRANGERS = {
    "base:0": "a voxel robot with pink lights, in a forest",
    "base:1": "On a white background, a potted sprout in a teal pot, winking",
    "base:2": "smiling, on a beach",
    "base:3": "A picture of a dome-shaped pink critter with round ears, laughing",
    "base:4": "a voxel person, under water",
}
ROLESCAPE = Path(__file__).parent.parent.parent / "shared" / "rolescape"


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Character:
    return read_character(make_folder(tmp_path_factory.mktemp("characters") / "pip"))


@pytest.fixture(scope="module")
def pairs(pip: Character) -> list[Pair]:
    return expand(pip, seed=0)


def expand(character: Character, seed: int = 0) -> list[Pair]:
    return expand_character(character, seed, strangers=STRANGERS).pairs


def of_task(pairs: list[Pair], task: str, split: str = "train") -> list[Pair]:
    return [pair for pair in pairs if pair.task == task and pair.split == split]


def answer(pair: Pair) -> str:
    return pair.texts("assistant")[-1]


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(pip: Character, pairs: list[Pair]) -> None:
    assert expand(pip, seed=0) == pairs
    assert expand(pip, seed=1) != pairs


def test_hundreds_of_pairs_in_every_task(pairs: list[Pair]) -> None:
    counts = Counter(pair.task for pair in pairs)
    assert set(counts) == set(TASKS)
    assert 150 <= len(pairs) <= 600
    assert len({pair.id for pair in pairs}) == len(pairs)
    assert len({(pair.task, pair.parts) for pair in pairs}) == len(pairs)


def test_every_conversation_opens_with_the_one_system_prompt(pip: Character, pairs: list[Pair]) -> None:
    for pair in pairs:
        if pair.task in (*TALK, "roleplay_request", "knowledge", "refusal"):
            # facts are learned without the voice, see introduction()
            facts = pair.task in ("knowledge", "refusal")
            prompt = grammar.introduction(pip) if facts else grammar.system_prompt(pip)
            assert pair.texts("system") == [prompt]
            assert isinstance(pair.parts[0], TextPart) and pair.parts[0].role == "system"
        else:
            assert pair.texts("system") == []


def test_dialogues_are_kept_to_the_letter_and_carry_their_plan(pip: Character, pairs: list[Pair]) -> None:
    by_origin = {pair.origin: pair for pair in of_task(pairs, "roleplay_text")}
    for dialogue in pip.dialogues:
        pair = by_origin.get(dialogue.origin)
        if pair is None:
            continue
        asked, said = dialogue.turns
        text, plan = grammar.split_plan(answer(pair))
        assert (pair.texts("user"), text) == ([asked.text], said.text)
        assert (plan is None) == (said.image is None)
        if said.image is not None:
            assert plan == grammar.short_caption(pip, pip.picture(said.image).caption or "")


def test_only_what_the_character_says_or_is_drawn_is_learned(pairs: list[Pair]) -> None:
    for pair in pairs:
        for part in pair.parts:
            if isinstance(part, TextPart):
                assert not part.loss or part.role == "assistant"
            else:
                assert part.loss == (part.use == "draw")


def test_held_out_comes_first_and_nothing_asks_it_again(pip: Character, pairs: list[Pair]) -> None:
    assert len(of_task(pairs, "roleplay_text", "held_out")) >= 3
    assert len(of_task(pairs, "text_to_image", "held_out")) == 1
    assert leaked(pairs, pip.name) == []
    held = {prompt_key(pair.texts("user")[-1], pip.name) for pair in of_task(pairs, "roleplay_text", "held_out")}
    for pair in pairs:
        if pair.split == "train" and pair.task in ("roleplay_text", "knowledge"):
            assert not held & {prompt_key(text, pip.name) for text in pair.texts("user")}


@pytest.mark.parametrize("seed", range(5))
def test_the_held_out_picture_is_in_no_training_pair(pip: Character, seed: int) -> None:
    pairs = expand(pip, seed)
    (held,) = of_task(pairs, "text_to_image", "held_out")
    (name,) = held.images("draw")
    train = [pair for pair in pairs if pair.split == "train"]
    assert all(name not in pair.images("draw") + pair.images("look") for pair in train)
    drawn = {image for pair in train for image in pair.images("draw")}
    assert drawn == {picture.name for picture in pip.pictures} - {name}
    caption = grammar.short_caption(pip, pip.picture(name).caption or "")
    assert not any(caption in part.text for pair in train for part in pair.parts if isinstance(part, TextPart))


def test_with_fewer_than_ten_pictures_none_is_held_out(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip", pictures=10)
    (folder / "images" / "06.png").unlink()
    (folder / "images" / "06.txt").unlink()
    pairs = expand(read_character(folder))
    assert of_task(pairs, "text_to_image", "held_out") == []
    assert len(of_task(pairs, "roleplay_text", "held_out")) >= 3


def test_pictures_without_captions_still_teach_to_draw(pip: Character) -> None:
    bare = dataclasses.replace(
        pip, pictures=tuple(dataclasses.replace(picture, caption=None) for picture in pip.pictures)
    )
    pairs = expand(bare)
    drawn = of_task(pairs, "text_to_image")
    assert {image for pair in drawn for image in pair.images("draw")} == {p.name for p in pip.pictures}
    assert "a picture of Pip, a clay robot" in {pair.texts(None)[0] for pair in drawn}
    assert leaked(pairs, pip.name) == []


def test_dialogues_that_ask_the_same_are_held_out_together(pip: Character) -> None:
    twins = [
        Dialogue((Turn("user", text), Turn("character", f"Answer {n}.")), f"d:{n}")
        for n, text in enumerate(["What is that on the shelf?", "Hey Pip, what's that on the shelf", "Other one?"])
    ]
    character = dataclasses.replace(pip, dialogues=(*pip.dialogues, *twins))
    for seed in range(8):
        pairs = expand(character, seed)
        splits = {pair.origin: pair.split for pair in pairs if pair.task == "roleplay_text"}
        assert splits["d:0"] == splits["d:1"]
        assert leaked(pairs, pip.name) == []


def test_multi_turn_dialogues_learn_every_reply_but_not_an_unasked_first_line(pip: Character) -> None:
    turns = (
        Turn("character", "Welcome!"),
        Turn("user", "Is it open already?"),
        Turn("character", "Almost."),
        Turn("user", "And the biscuits?"),
        Turn("character", "Two left."),
    )
    one = dataclasses.replace(pip, dialogues=(*pip.dialogues, Dialogue(turns, "long")))
    pair = next(
        pair for seed in range(9) for pair in expand(one, seed) if pair.origin == "long" and pair.split == "train"
    )
    assert [part.loss for part in pair.parts if isinstance(part, TextPart)] == [
        False,
        False,
        False,
        True,
        False,
        True,
    ]


def test_joined_conversations_learn_only_their_last_reply(pairs: list[Pair]) -> None:
    joined = [pair for pair in pairs if " + " in pair.origin]
    assert joined
    for pair in joined:
        assert [part.loss for part in pair.parts] == [False, False, False, False, True]


def test_rewordings_are_few_and_keep_the_reply(pip: Character, pairs: list[Pair]) -> None:
    counts = Counter(pair.origin for pair in pairs if pair.origin.endswith(" reworded"))
    assert counts and max(counts.values()) <= 2
    replies = {turn.text for dialogue in pip.dialogues for turn in dialogue.turns}
    for pair in pairs:
        if pair.origin.endswith(" reworded"):
            assert grammar.split_plan(answer(pair))[0] in replies and pair.split == "train"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is that?", {"What might that be?", "What do we have there?"}),
        ("Do you like rain?", {"Are you fond of rain?"}),
        ("Do you like to swim?", set()),
        ("Are you asleep?", set()),
        ("Why don't you sleep?", set()),
        ("What is that? It is loud.", set()),
    ],
)
def test_rewordings_change_the_words_and_only_where_that_is_sure(text: str, expected: set[str]) -> None:
    assert set(rewordings(text, random.Random(0), limit=9)) == expected


@given(st.text(min_size=1, max_size=80), st.integers(0, 99))
def test_a_rewording_asks_the_same(text: str, seed: int) -> None:
    for form in rewordings(text, random.Random(seed)):
        assert form != text


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What's up, Bo?", "hey bo what is up", True),
        ("Tell me, who are you?", "Who are you?", True),
        ("Where did you find that old umbrella?", "where did you find that umbrella", True),
        ("Where do you live?", "Where do you sleep?", False),
        ("Do you like tea?", "Do you like rain?", False),
    ],
)
def test_prompts_are_compared_by_what_they_ask(one: str, other: str, same: bool) -> None:
    assert similar(prompt_key(one, "Bo"), prompt_key(other, "Bo")) is same


def test_a_leak_is_found() -> None:
    def pair(name: str, split: str, asked: str) -> Pair:
        parts = (TextPart(role="user", text=asked), TextPart(role="assistant", text="x", loss=True))
        return Pair(id=name, task="roleplay_text", split=split, origin="o", parts=parts)  # type: ignore[arg-type]

    held, leak, fine = (
        pair("a", "held_out", "What's up?"),
        pair("b", "train", "hey bo, what is up"),
        pair("c", "train", "No."),
    )
    assert leaked([held, leak, fine], "Bo") == [leak]
    picture = ImagePart(image="1", use="draw", loss=True)
    drawn = Pair(
        id="d",
        task="text_to_image",
        split="held_out",
        origin="o",
        parts=(TextPart(role=None, text="a"), picture),
    )
    again = drawn.model_copy(update={"id": "e", "split": "train", "parts": (TextPart(role=None, text="b"), picture)})
    assert leaked([drawn, again]) == [again]


# questions about pictures


def test_captions_are_taken_apart(pip: Character) -> None:
    assert phrases(pip, "sad, wearing a red hat, holding a kite, sitting on a bench near trees, soft light") == [
        Phrase("pose", "sad"),
        Phrase("clothes", "wearing a red hat"),
        Phrase("held", "holding a kite"),
        Phrase("pose", "sitting"),
        Phrase("place", "on a bench"),
        Phrase("beside", "near trees"),
    ]


def test_the_captions_of_the_embedded_base_are_understood(pip: Character) -> None:
    caption = "Pip, a clay robot, smiling, with happy eyes, wearing a blue coat, next to a cat, on a red background"
    assert phrases(pip, caption) == [
        Phrase("pose", "smiling"),
        Phrase("thing", "happy eyes"),
        Phrase("clothes", "wearing a blue coat"),
        Phrase("beside", "next to a cat"),
        Phrase("place", "on a red background"),
    ]
    assert grammar.short_caption(pip, caption) == caption


@given(st.text(max_size=100))
def test_no_caption_breaks_the_phrases(caption: str) -> None:
    character = Character("Pip", "clay robot", "", "", "", (), "", "", "", (), (), Path())
    for phrase in phrases(character, caption):
        assert phrase.text.strip()


@pytest.mark.parametrize(
    ("other", "caption", "absent"),
    [
        ("in a forest", "smiling, in a workshop", True),
        ("in a forest", "smiling", False),
        ("on a soft rug", "sitting on a carpet, in a room", False),
        ("indoors", "sitting on a bed", False),
        ("indoors", "standing on green grass", True),
        ("outdoors", "sitting on a bed", True),
        ("on a cushion", "sitting, cozy indoor setting", False),
        ("on a beach", "sitting, cozy indoor setting", True),
        ("in a kitchen", "lying on a wooden floor", False),
        ("on a cushion", "lying on a wooden floor", True),
        ("in a park", "lying on a wooden floor", True),
    ],
)
def test_a_false_question_is_asked_only_where_the_answer_is_sure(
    pip: Character, other: str, caption: str, absent: bool
) -> None:
    assert surely_absent(Phrase("place", other), caption, phrases(pip, caption)) is absent


def test_eyes_are_told_apart_from_the_mouth(pip: Character) -> None:
    own = phrases(pip, "with a straight face, with wide eyes")
    assert surely_absent(Phrase("thing", "closed eyes"), "with a straight face, with wide eyes", own)
    assert not surely_absent(Phrase("thing", "an open mouth"), "with wide eyes", phrases(pip, "with wide eyes"))
    assert not surely_absent(Phrase("thing", "a lantern"), "with wide eyes", phrases(pip, "with wide eyes"))


def test_yes_and_no_are_balanced_and_no_is_true(pip: Character, pairs: list[Pair]) -> None:
    asked = [pair for pair in pairs if pair.task == "vqa" and not pair.images("look")[0].startswith("base:")]
    yes = [pair for pair in asked if answer(pair).startswith("Yes, ")]
    no = [pair for pair in asked if answer(pair).startswith("No, ")]
    assert len(yes) == len(no) >= 20
    for pair in no:
        caption = (pip.picture(pair.images("look")[0]).caption or "").lower()
        phrase = pair.texts("user")[0].removeprefix("Is Pip ").rstrip("?").lower()
        assert phrase not in caption


def test_the_wording_of_a_question_does_not_give_its_answer_away(pairs: list[Pair]) -> None:
    answers: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.task == "vqa" and pair.texts("user")[0].startswith("Is Pip "):
            answers.setdefault(pair.texts("user")[0], set()).add(answer(pair).split(",")[0])
    both = sum(len(given) == 2 for given in answers.values())
    assert both >= 0.6 * len(answers)


@pytest.mark.parametrize("opening", ["a", "A picture of a", "An image showing a", "Draw a", "In a forest, a"])
def test_a_stranger_is_what_its_caption_draws(opening: str) -> None:
    assert what_it_shows(f"{opening} voxel person with a visor, a full beard and tan skin") == "a voxel person"


# the file


def test_pairs_are_read_back_as_written(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "pairs" / "pairs.jsonl"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs
    assert path.read_text(encoding="utf-8").count("\n") == len(pairs)


GOOD_PART = '{"role":"assistant","text":"x","loss":true}'
GOOD = '{"id":"a","task":"vqa","split":"train","origin":"o","parts":[' + GOOD_PART + "]}"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "JSON"),
        (GOOD.replace('"origin"', '"orgin"'), "unknown key orgin"),
        (GOOD.replace('"loss"', '"los"'), "unknown key parts.0"),
        (GOOD.replace('"vqa"', '"cooking"'), "task"),
        (GOOD.replace('"assistant"', '"user"'), "only a part with the role assistant"),
        (GOOD.replace("true", "false"), "nothing would be learned"),
        (
            GOOD.replace('{"role":"assistant","text":"x","loss":true}', '{"image":"1","use":"draw","loss":false}'),
            "draw",
        ),
        (GOOD, "has the id 'a' of line 1"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, bad: str, words: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{GOOD}\n\n{bad}\n")
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    assert {problem.file for problem in caught.value.problems} == {"pairs.jsonl:3"}
    assert any(words in problem.problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.skipif(not ROLESCAPE.is_dir(), reason="the RoleScape sample is not beside the repository")
@pytest.mark.parametrize("name", ["Bo", "Mam"])
def test_rolescape_expands_without_leaks(name: str) -> None:
    character = read_character(ROLESCAPE / name)
    pairs = expand(character)
    assert 200 <= len(pairs) <= 400 and leaked(pairs, name) == []
    asked = Counter(answer(pair).split(",")[0] for pair in pairs if pair.task == "vqa")
    assert asked["Yes"] == asked["No"]
    assert len(of_task(pairs, "text_to_image", "held_out")) == 1
