"""Short questions about a look with true answers: what the understanding side of `mini` is taught to see."""

from __future__ import annotations

import random
from dataclasses import replace

from charforge.bases.can_draw import KIND_NOUN
from charforge.grammar import has_detail
from charforge.recipe import captions, world
from charforge.recipe.world import Look

THING_THERE, THING_GONE = 0.65, 0.13
"""How often a thing that is there is asked for with yes, and a picture without one at all: yes and no stay balanced."""
GLASSES_GONE = 0.43
"""Three in ten people wear glasses: fewer of the others are asked."""

OPEN = 0.35
"""How often what a picture and its rival differ in is to be named instead of confirmed."""

Question = tuple[str, str]


def questions(look: Look, rng: random.Random) -> list[Question]:
    """About fifteen questions with answers, yes and no balanced within every kind of question."""
    return [*_open_questions(look), *_yes_no_questions(look, rng)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def details(look: Look) -> dict[str, str]:
    """What varies in a picture, as captions say it, by kind: place, mouth, eyes, clothes, thing."""
    mouth, eyes = captions.mood_phrase(look)
    found = {"place": captions.place_phrase(look), "mouth": mouth}
    if not captions.hides_eyes(look):
        found["eyes"] = f"with {eyes}"
    if look.outfit:
        found["clothes"] = f"wearing {captions.clothes_phrase(look)}"
    if look.thing:
        found["thing"] = captions.thing_phrase(look)
    return found


def rival(look: Look, rng: random.Random) -> Look:
    """The same character in the same place with another expression, other clothes and another thing."""
    told = details(look)
    while True:
        other = world.random_mood(rng, world.random_scene(rng, look))
        other = replace(other, place=look.place, background=look.background)
        if look.outfit and rng.random() < 0.5:
            kept = rng.choice(["outfit", "outfit_color"])
            other = replace(other, **{kept: getattr(look, kept)})
        seen = details(other)
        if seen.keys() == told.keys() and all(told[kind] != seen[kind] for kind in told if kind != "place"):
            return other


def rival_questions(one: Look, other: Look, rng: random.Random) -> list[tuple[Question, Question]]:
    """What the two differ in, asked once about each: yes and no to the same words, or to be named.

    Only what is seen can tell the answers apart: how a question is worded cannot.
    """
    first, second = details(one), details(other)
    asked: list[tuple[Question, Question]] = []
    for kind in first:
        if kind == "place":
            continue
        if rng.random() < OPEN:
            asked.append((_open_question(one, kind), _open_question(other, kind)))
        else:
            said = rng.choice((first[kind], second[kind]))
            asked.append((_confirmation(said, said == first[kind]), _confirmation(said, said == second[kind])))
    rng.shuffle(asked)
    return asked


def _open_question(look: Look, kind: str) -> Question:
    """The question of ``_open_questions`` that asks for one detail."""
    told = details(look)[kind]
    if kind == "thing":
        question = "What is it holding?" if look.side == "holding" else "What is next to it?"
        return question, _sentence(world.THINGS[look.thing])
    question = {
        "mouth": "What expression does the character have?",
        "eyes": "What are the eyes like?",
        "clothes": "What is the character wearing?",
    }[kind]
    return question, _sentence(told.removeprefix("with ").removeprefix("wearing "))


def _open_questions(look: Look) -> list[Question]:
    noun = KIND_NOUN[look.kind]
    told = details(look)
    out = [
        ("What kind of character is this?", f"A {noun}."),
        ("Where is it?", _sentence(told["place"])),
        _open_question(look, "mouth"),
    ]
    if "eyes" in told:
        out.append(_open_question(look, "eyes"))
    if look.kind == "person":
        if look.hair in world.HAIR_STYLES:
            out.append(("What colour is the hair?", _sentence(look.hair_color)))
        out.append(("What colour are the clothes?", _sentence(look.outfit_color)))
        out.append(_open_question(look, "clothes"))
    else:
        out.append((f"What colour is the {'pot' if look.kind == 'sprout' else 'body'}?", _sentence(look.body_color)))
    if look.thing:
        out.append(_open_question(look, "thing"))
    if not look.place:
        out.append(("What colour is the background?", _sentence(look.background)))
    return out


def _yes_no_questions(look: Look, rng: random.Random) -> list[Question]:
    """Every detail is asked for once, true or exchanged for another of its kind."""
    told, out = details(look), []
    for kind, true in told.items():
        if kind != "thing":
            asked = true if rng.random() < 0.5 else _false_detail(look, kind, rng)
            out.append(_confirmation(asked, asked == true))
    if look.thing:
        asked = told["thing"] if rng.random() < THING_THERE else _false_detail(look, "thing", rng)
        out.append(_confirmation(asked, asked == told["thing"]))
    elif rng.random() < THING_GONE:
        out.append(_confirmation(_false_detail(look, "thing", rng), False))
    if look.kind == "person":
        if look.hair in world.HAIR_STYLES:
            color = (
                look.hair_color if rng.random() < 0.5 else rng.choice([c for c in world.HAIR if c != look.hair_color])
            )
            out.append(_confirmation(f"with {color} hair", color == look.hair_color))
        if look.glasses or rng.random() < GLASSES_GONE:
            out.append(("Does the character wear glasses?", "Yes." if look.glasses else "No."))
    noun = KIND_NOUN[look.kind]
    kind = noun if rng.random() < 0.5 else rng.choice([n for n in KIND_NOUN.values() if n != noun])
    out.append((f"Is this a {kind}?", "Yes." if kind == noun else "No."))
    return out


def _confirmation(detail: str, true: bool) -> Question:
    return has_detail("the character", detail), "Yes." if true else "No."


def _false_detail(look: Look, kind: str, rng: random.Random) -> str:
    """A false detail of one kind. Of clothes half the time only the colour or only the garment is wrong."""
    true = details(look).get(kind)
    while True:
        other = world.random_mood(rng, world.random_scene(rng, look))
        if kind == "clothes" and rng.random() < 0.5:
            kept = rng.choice(["outfit", "outfit_color"])
            other = replace(other, **{kept: getattr(look, kept)})
        if kind == "thing" and not other.thing:
            continue
        if (false := details(other)[kind]) != true:
            return false
