"""New scenes for a character, each with questions whose answers are known: what the second stage draws and is paid for.

The words are everyday ones, beside those of the character's own captions. No scene puts two things together that one
of the captions already does; held-out scenes also share no pair of place and clothes with the training scenes. By the
first of the held-out scenes the second stage chooses its checkpoint; the others are left for the evaluation.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from charforge import grammar
from charforge.character import Character
from charforge.character.nouns import animal_of
from charforge.errors import InputError, Problem
from charforge.expand.holdout import hold_out
from charforge.expand.pairs import Split
from charforge.expand.phrases import meanings
from charforge.files import write_atomic

Kind = Literal["place", "mouth", "eyes", "clothes", "thing"]

TRAIN_SCENES, HELD_OUT_SCENES, TEST_SCENES = 24, 16, 12
"""Test scenes are held out too, and come after the others: nothing is chosen by them."""
ROLE_PLAY_SHARE = 1 / 3
"""Of the scenes: drawn from a plan and a reply, as in a conversation."""
OPTIONS = 4
"""Answers to choose from in a question with keyed answers."""
THING_SHARE = 1 / 3

_COLORS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "white", "black", "brown", "gray")
_GARMENTS = ("shirt", "striped {} shirt", "hoodie", "jacket", "coat", "dress", "suit")
_WORDS: dict[Kind, tuple[str, ...]] = {
    "place": (
        "on a beach", "in a forest", "in the snow", "in a city at night", "in a desert", "in a meadow", "in a bedroom",
        "in a kitchen", "in a library", "in space", "under water", "at sunset", "in a workshop", "in the rain",
        "on a red background", "on a white background", "on a sky blue background", "on a yellow background",
    ),
    "mouth": (
        "smiling", "laughing", "frowning", "grinning", "smirking", "with an open mouth", "with a straight face",
        "sticking out the tongue",
    ),
    "eyes": ("with open eyes", "with happy eyes", "with sleepy eyes", "with closed eyes", "with wide eyes"),
    "thing": (
        "holding an apple", "holding a balloon", "holding a guitar", "holding an umbrella", "holding a candle",
        "holding a book", "holding a key", "holding a cake", "next to a cat", "next to a dog", "next to a ball",
        "next to a present", "next to a teapot", "next to a pumpkin",
    ),
    "clothes": tuple(
        f"wearing {grammar.with_article(garment.format(color) if '{}' in garment else f'{color} {garment}')}"
        for garment in _GARMENTS
        for color in _COLORS
    ),
}  # fmt: skip
OPEN_QUESTIONS: dict[Kind, str] = {
    "place": "Where is it?",
    "mouth": "What expression does the character have?",
    "eyes": "What are the eyes like?",
    "clothes": "What is the character wearing?",
}
"""How a kind of detail is asked for when the answer is not known."""
_FORMS: dict[Kind, str] = {
    "place": r"(?:in|on|at|under|inside|near|by|behind|among|between|in front of|beside|above|aboard|outside)\s\w",
    "mouth": r"\w+ing\b|with an?\s\w",
    "eyes": r"with [\w -]*\beyes$",
    "clothes": r"wearing\s\w",
    "thing": r"(?:holding|next to|carrying)\s\w",
}
_NOT_OF_ANIMALS = {"holding", "smirking", "frowning", "laughing", "grinning"}
_TELLS: dict[Kind, tuple[str, ...]] = {
    "mouth": ("mouth", "smiling", "laughing", "frowning", "grinning", "smirking", "expression", "tongue", "face"),
    "eyes": ("eyes",),
    "clothes": ("wearing",),
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Check(_Strict):
    """A yes/no question about one kind of detail: what the reward asks."""

    kind: Kind
    question: str = Field(min_length=1)
    answer: bool


class KeyedCheck(_Strict):
    """The same detail asked for openly, with answers to choose from: never used in a reward, only to judge it."""

    kind: Kind
    question: str = Field(min_length=1)
    options: tuple[str, ...] = Field(min_length=2)
    right: int = Field(ge=0)


class Scene(_Strict):
    """One prompt that no picture was given for, and how to tell whether a picture shows it."""

    id: str = Field(min_length=1)
    split: Split
    prompt: str = Field(min_length=1)
    checks: tuple[Check, ...] = Field(min_length=1)
    keyed: tuple[KeyedCheck, ...] = ()


def write_scenes(path: Path, scenes: Iterable[Scene]) -> None:
    """Write scenes as JSON Lines, atomically."""
    write_atomic(path, "".join(json.dumps(scene.model_dump(), ensure_ascii=False) + "\n" for scene in scenes))


def read_scenes(path: Path) -> list[Scene]:
    """Read scenes back, perhaps edited by hand; every bad line is a problem with its number (InputError)."""
    scenes, problems = [], []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            scenes.append(Scene.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"])
            problems.append(Problem(f"{path.name}:{number}", "error", f"{place}: {first['msg']}", "mend the line"))
    if problems:
        raise InputError(f"{path} has {len(problems)} bad scenes.", problems)
    for split in ("train", "held_out"):
        if not any(scene.split == split for scene in scenes):
            raise InputError(
                f"{path} has no scenes of the split {split}: add some, or remove the file to have it written"
            )
    return scenes


def left_for_test(held_out: Sequence[Scene], choosing: int) -> list[Scene]:
    """Those of the held-out scenes by which no checkpoint was chosen: all but the first ``choosing``.

    All of them where there are no others: then the figures are a little too good.
    """
    return list(held_out[choosing:]) or list(held_out)


def write_new_scenes(character: Character, seed: int) -> list[Scene]:
    """Training and held-out scenes, test scenes last; the same character and seed give the same scenes."""
    rng = random.Random(f"{seed} scenes")
    details_of = _new_details(character, rng)
    spoken = hold_out(character, seed).trained(character)
    replies = [turn.text for dialogue in spoken for turn in dialogue.turns if turn.role == "character"]
    made: list[Scene] = []
    for split, scenes in details_of.items():
        made += [_scene(character, f"{split}-{n:02d}", split, d, n, replies, rng) for n, d in enumerate(scenes)]
    # a source of their own: the scenes before them are those of earlier runs
    rng = random.Random(f"{seed} test scenes")
    words = {kind: _suitable(character, kind) for kind in kinds_of(character)}
    captions = [picture.caption or "" for picture in character.pictures]
    tests = _details(words, captions, [*details_of["held_out"], *details_of["train"]], TEST_SCENES, rng)
    made += [_scene(character, f"test-{n:02d}", "held_out", d, n, replies, rng) for n, d in enumerate(tests)]
    return made


def _scene(
    character: Character, name: str, split: Split, details: dict[Kind, str], number: int, replies: Sequence[str],
    rng: random.Random,
) -> Scene:  # fmt: skip
    prompt = grammar.caption_with_name(character, ", ".join(details[kind] for kind in ordered(details)))
    if replies and number % round(1 / ROLE_PLAY_SHARE) == 1:
        prompt = grammar.picture_prompt(character, prompt, rng.choice(replies))
    checks = _checks(details, rng)
    return Scene(id=name, split=split, prompt=prompt, checks=checks, keyed=_keyed(details, rng))


def scene_of(
    character: Character, details: Sequence[tuple[Kind, str, Sequence[str]]], number: int, rng: random.Random
) -> Scene | None:
    """A training scene from (kind, words, other words of that kind); None where a detail has not the form of its kind.

    Each detail is asked for, and one of the others is asked for in its place. The others are also what one may choose
    from.
    """
    kinds = [kind for kind, _, _ in details]
    if len(set(kinds)) < len(kinds) or not all(_has_form(kind, words) for kind, words, _ in details):
        return None
    checks, keyed = [], []
    for kind, words, others in details:
        false = [other for other in dict.fromkeys(others) if _has_form(kind, other) and not _alike(other, words)]
        if not false:
            return None
        checks.append(Check(kind=kind, question=grammar.has_detail("the character", words), answer=True))
        checks.append(Check(kind=kind, question=grammar.has_detail("the character", false[0]), answer=False))
        same = [other for other in false if kind != "thing" or other.split()[0] == words.split()[0]]
        if len(same) >= OPTIONS - 1:
            options = rng.sample(same, OPTIONS - 1)
            options.insert(rng.randrange(OPTIONS), words)
            keyed.append(_keyed_check(kind, words, options))
    told = {kind: words for kind, words, _ in details}
    prompt = grammar.caption_with_name(character, ", ".join(told[kind] for kind in ordered(told)))
    return Scene(id=f"train-a{number:02d}", split="train", prompt=prompt, checks=tuple(checks), keyed=tuple(keyed))


def _has_form(kind: Kind, words: str) -> bool:
    """Whether words fit after "is" or "with", as those of their kind do: "in a forest", "wearing a coat"."""
    return len(words.split()) <= 8 and re.match(_FORMS[kind], words) is not None and not re.search(r"[,.;:!?]", words)


def scene_details(character: Character, seed: int) -> dict[Split, list[dict[Kind, str]]]:
    """What each scene of :func:`write_new_scenes` shows, by kind of detail; without the test scenes."""
    return _new_details(character, random.Random(f"{seed} scenes"))


def _new_details(character: Character, rng: random.Random) -> dict[Split, list[dict[Kind, str]]]:
    words = {kind: _suitable(character, kind) for kind in kinds_of(character)}
    captions = [picture.caption or "" for picture in character.pictures]
    held_out = _details(words, captions, [], HELD_OUT_SCENES, rng)
    return {"train": _details(words, captions, held_out, TRAIN_SCENES, rng), "held_out": held_out}


def _suitable(character: Character, kind: Kind) -> tuple[str, ...]:
    """The details of one kind that suit the character: an animal holds nothing and smirks at nobody, unless one of its
    captions says so.
    """
    animal = any(animal_of(word) for word in character.class_noun.split())
    captions = " ".join(picture.caption or "" for picture in character.pictures).lower()
    if not animal or "holding" in captions:
        return _WORDS[kind]
    return tuple(words for words in _WORDS[kind] if words.split()[0] not in _NOT_OF_ANIMALS)


def kinds_of(character: Character) -> list[Kind]:
    """What may be asked for: always a place; other kinds where at least a third of the captions speak of them."""
    captions = [(picture.caption or "").lower() for picture in character.pictures]

    def told(words: tuple[str, ...]) -> bool:
        return 3 * sum(any(word in caption for word in words) for caption in captions) >= len(captions)

    spoken: list[Kind] = [kind for kind, words in _TELLS.items() if told(words)]
    return ["place", *spoken, "thing"]


def ordered(details: dict[Kind, str]) -> list[Kind]:
    """Expression, clothes, thing, place: the order of the captions."""
    order: tuple[Kind, ...] = ("mouth", "eyes", "clothes", "thing", "place")
    return [kind for kind in order if kind in details]


def _details(
    words: Mapping[Kind, tuple[str, ...]],
    captions: list[str],
    taken: list[dict[Kind, str]],
    count: int,
    rng: random.Random,
) -> list[dict[Kind, str]]:
    """``count`` sets of details. Values come in turn, so that each is asked for about equally often."""
    decks: dict[Kind, list[str]] = {kind: [] for kind in words}

    def dealt(kind: Kind) -> str:
        if not decks[kind]:
            decks[kind] = rng.sample(words[kind], len(words[kind]))
        return decks[kind].pop()

    made: list[dict[Kind, str]] = []
    for _ in range(count):
        chosen = [kind for kind in words if kind != "thing" or rng.random() < THING_SHARE or len(words) == 2]
        for _attempt in range(200):
            details = {kind: dealt(kind) for kind in chosen}
            if not _seen(details, captions) and not any(_share_scene(details, other) for other in [*taken, *made]):
                break
        made.append(details)
    return made


def _seen(details: dict[Kind, str], captions: list[str]) -> bool:
    """Whether a caption already has two of these details together."""
    return any(
        all(meanings(words) <= meanings(caption) for words in pair)
        for caption in captions
        for pair in combinations([words for kind, words in details.items() if kind != "eyes"], 2)
    )


def _share_scene(details: dict[Kind, str], other: dict[Kind, str]) -> bool:
    """Whether two scenes have place and clothes in common, or everything where nobody wears clothes."""
    kinds: list[Kind] = [kind for kind in ("place", "clothes") if kind in details] if "clothes" in details else []
    return all(details.get(kind) == other.get(kind) for kind in kinds or details)


def _checks(details: dict[Kind, str], rng: random.Random) -> tuple[Check, ...]:
    """Each detail asked for, and each once exchanged for another: yes to everything earns half."""
    checks = []
    for kind, words in details.items():
        false = rng.choice([other for other in _WORDS[kind] if not _alike(other, words)])
        checks.append(Check(kind=kind, question=grammar.has_detail("the character", words), answer=True))
        checks.append(Check(kind=kind, question=grammar.has_detail("the character", false), answer=False))
    return tuple(checks)


def _keyed(details: dict[Kind, str], rng: random.Random) -> tuple[KeyedCheck, ...]:
    checks = []
    for kind, words in details.items():
        others = [other for other in _WORDS[kind] if not _alike(other, words)]
        if kind == "thing":
            # "what is it holding" has no answer where the other scenes stand beside something
            others = [other for other in others if other.split()[0] == words.split()[0]]
        options = rng.sample(others, OPTIONS - 1)
        options.insert(rng.randrange(OPTIONS), words)
        checks.append(_keyed_check(kind, words, options))
    return tuple(checks)


def _keyed_check(kind: Kind, words: str, options: Sequence[str]) -> KeyedCheck:
    of_thing = "What is next to it?" if words.startswith("next to") else "What is it holding?"
    question = OPEN_QUESTIONS.get(kind, of_thing)
    told = tuple(answer_of(option) for option in options)
    return KeyedCheck(kind=kind, question=question, options=told, right=options.index(words))


def _alike(one: str, other: str) -> bool:
    """Whether two details may both be true of one picture: a smile and a grin, a coat and a jacket of one colour."""
    first, second = meanings(one), meanings(other)
    return first <= second or second <= first


def answer_of(words: str) -> str:
    """A detail as the answer to an open question: "wearing a red coat" -> "A red coat."."""
    for start in ("wearing ", "with ", "holding ", "carrying ", "next to "):
        words = words.removeprefix(start)
    return f"{words[0].upper()}{words[1:]}."
