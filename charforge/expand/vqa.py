"""Questions about the character's own pictures, with as many false ones as true ones."""

from __future__ import annotations

import random
import re
from collections import Counter

from charforge import grammar
from charforge.character import Character, Picture
from charforge.expand.choices import with_options
from charforge.expand.phrases import Phrase, is_a_time, meanings, phrases, slot, surely_absent, words_after
from charforge.expand.similar import SIMILAR, grams, overlap

YES_NO = 4
"""True questions a picture at most, and as many false ones."""

_STRANGERS = ("Milo", "Tessa", "Juniper", "Otto", "Nadia", "Felix")
_OTHER_THINGS = ("robot", "tree", "house", "car", "fish", "bird", "cake", "book")

Question = tuple[str, str]


def questions(character: Character, chooser: random.Random) -> dict[str, list[Question]]:
    """Question and answer pairs per picture name. Yes and no answers are equally many over all pictures."""
    described = [(picture, phrases(character, picture.caption or "")) for picture in character.pictures]
    # how often a phrase was false so far, less how often it is true: the least used up is asked
    # next, so that the wording of a question does not give its answer away
    used = Counter[Phrase]()
    for _, own in described:
        used.subtract(own)
    asked: dict[str, list[Question]] = {}
    for number, (picture, own) in enumerate(described):
        others = [phrase for other, theirs in described if other is not picture for phrase in theirs]
        others += [Phrase("place", "indoors"), Phrase("place", "outdoors")]
        true = _distinct([_true(character, phrase) for phrase in chooser.sample(own, len(own))])
        false = _false_questions(character, picture, own, others, used, chooser)
        # one to one: whichever runs out first ends both
        count = min(len(true), len(false), YES_NO)
        asked[picture.name] = [
            *_identity(character, number),
            *_open(character, picture, own),
            *true[:count],
            *false[:count],
            *_choices(character, picture, own, others),
        ]
    return asked


def _choices(character: Character, picture: Picture, own: list[Phrase], others: list[Phrase]) -> list[Question]:
    """Open questions with answers to choose from: the picture's own, and such of other pictures as are surely wrong."""
    name = character.name
    wrong = [phrase for phrase in dict.fromkeys(others) if surely_absent(phrase, picture.caption or "", own)]
    made = []
    for kind, question, told in (
        ("place", grammar.where_is(name), lambda text: text),
        ("clothes", grammar.what_is_doing(name, "wearing"), words_after),
        ("held", grammar.what_is_doing(name, "holding"), words_after),
        ("pose", grammar.what_is_doing(name, "doing"), lambda text: text),
    ):
        right = _told(own, kind)
        # indoors and outdoors are no places beside a rug and a lawn
        options = [
            phrase.text for phrase in wrong if phrase.kind == kind and phrase.text not in ("indoors", "outdoors")
        ]
        if kind == "pose":
            options = [text for text in options if text.endswith("ing") or text == "lying down"]
        if right in (None, "indoors", "outdoors") or (kind == "pose" and not right.split()[0].endswith("ing")):
            continue
        texts = [told(text) for text in _unlike(options)]
        if mixed := with_options(question, told(right), texts, f"{picture.name} {question}"):
            made.append(mixed)
    return made


def _unlike(texts: list[str]) -> list[str]:
    """Those that share no meaning with an earlier one: a counter and a countertop are no choice."""
    kept: list[str] = []
    for text in texts:
        if not any(meanings(text) & meanings(other) for other in kept):
            kept.append(text)
    return kept


def _identity(character: Character, number: int) -> list[Question]:
    """Who it is: open, and once yes and once no."""
    name, who = character.name, grammar.who(character)
    strangers = [stranger for stranger in _STRANGERS if stranger.lower() not in name.lower()]
    things = [thing for thing in _OTHER_THINGS if thing not in character.class_noun.lower().split()]
    asked = [(grammar.WHO_IS_THIS if number % 2 == 0 else grammar.WHO_IS_IN_THE_PICTURE, f"{who}.")]
    # without a class there is nothing that "Is this a robot?" could be told apart from
    if number % 2 == 0 or not character.class_noun:
        stranger = strangers[(number // 2 if character.class_noun else number) % len(strangers)]
        return [
            *asked,
            (grammar.is_this(name), grammar.yes(f"this is {who}")),
            (grammar.is_this(stranger), grammar.no(f"this is {who}")),
        ]
    thing, noun = things[number // 2 % len(things)], grammar.with_article(character.class_noun)
    return [
        *asked,
        (grammar.is_this(noun), grammar.yes(f"this is {who}")),
        (grammar.is_this(grammar.with_article(thing)), grammar.no(f"this is {who}")),
    ]


def _open(character: Character, picture: Picture, own: list[Phrase]) -> list[Question]:
    """Where, what worn, what held, what done, and the whole picture."""
    name = character.name
    asked: list[Question] = []
    kinds: dict[str, str] = {}
    for phrase in own:
        kinds.setdefault(phrase.kind, _told(own, phrase.kind) or phrase.text)
    if "place" in kinds and not is_a_time(kinds["place"]):
        asked.append((grammar.where_is(name), _sentence(kinds["place"])))
    for kind, doing in (("clothes", "wearing"), ("held", "holding")):
        if kind in kinds:
            asked.append((grammar.what_is_doing(name, doing), _sentence(words_after(kinds[kind]))))
    if "beside" in kinds:
        # "next to a cat" -> "A cat."
        thing = re.sub(r"^(?:next to|near|by|beside)\s", "", kinds["beside"])
        asked.append((grammar.what_is_next_to(name), _sentence(thing)))
    doing_phrase = kinds.get("action") or kinds.get("pose")
    if doing_phrase and doing_phrase.split()[0].endswith("ing"):
        asked.append((grammar.what_is_doing(name, "doing"), _sentence(doing_phrase)))
    if picture.caption:
        asked.append((grammar.DESCRIBE, f"{grammar.short_caption(character, picture.caption)}."))
    return asked


def _true(character: Character, phrase: Phrase) -> Question:
    name = character.name
    if phrase.kind == "thing":
        text = f"{name} with {phrase.text}"
        return grammar.shows(text), grammar.yes(f"it shows {text}")
    return grammar.is_it(name, phrase.text), grammar.yes(f"{name} is {phrase.text}")


def _false_questions(
    character: Character,
    picture: Picture,
    own: list[Phrase],
    others: list[Phrase],
    used: Counter[Phrase],
    chooser: random.Random,
) -> list[Question]:
    name = character.name
    candidates = [phrase for phrase in dict.fromkeys(others) if surely_absent(phrase, picture.caption or "", own)]
    chooser.shuffle(candidates)
    asked: list[Question] = []
    kinds: Counter[str] = Counter()
    while candidates and len(asked) < YES_NO:
        # kinds in turn, so that not all false questions are about the place
        phrase = min(candidates, key=lambda phrase: (kinds[phrase.kind], used[phrase]))
        candidates.remove(phrase)
        kinds[phrase.kind] += 1
        used[phrase] += 1
        true = _told([mine for mine in own if slot(mine) == slot(phrase)], phrase.kind)
        if phrase.kind == "thing" or true is None:
            text = f"{name} with {phrase.text}"
            instead = f"it shows {name} with {true}" if true else f"it does not show {text}"
            question = (grammar.shows(text), grammar.no(instead))
        else:
            question = (grammar.is_it(name, phrase.text), grammar.no(f"{name} is {true}"))
        asked = _distinct([*asked, question])
    return asked


def _distinct(asked: list[Question]) -> list[Question]:
    """Without questions that nearly repeat an earlier one: "on a rug", "on a rug in a room"."""
    kept: list[Question] = []
    for question, answer in asked:
        if all(overlap(grams(question), grams(other)) < SIMILAR for other, _ in kept):
            kept.append((question, answer))
    return kept


def _told(own: list[Phrase], kind: str) -> str | None:
    """What a caption says of one kind; of places the narrowest: "on a bed" rather than "indoors"."""
    told = [phrase.text for phrase in own if phrase.kind == kind and not is_a_time(phrase.text)]
    return next((text for text in told if text not in ("indoors", "outdoors")), told[0] if told else None)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""
