"""A look in words: captions in varied natural language."""

from __future__ import annotations

import random
import re

from charforge.bases.can_draw import KIND_NOUN
from charforge.recipe import world
from charforge.recipe.world import Look


def article(noun: str) -> str:
    """ "old robot" -> "an old robot"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _with_color(phrase: str, color: str) -> str:
    """Fill a colour word in and mend the article before it: "a {} shirt", orange -> "an orange shirt"."""
    filled = phrase.format(color)
    if phrase.startswith("a {}") and color[0] in "aeiou":
        filled = "an" + filled[1:]
    return re.sub(r"\ba (orange|olive)\b", r"an \1", filled)


def identity_phrases(look: Look) -> list[str]:
    """What stays when the same character appears elsewhere."""
    if look.kind == "person":
        phrase = (world.HATS | world.HAIR_STYLES)[look.hair]
        phrases = [_with_color(phrase, look.hair_color), f"{look.skin} skin"]
        if look.glasses:
            phrases.append(world.GLASSES[look.glasses])
        if look.beard:
            phrases.append(world.BEARDS[look.beard])
        return phrases
    phrases = []
    if look.kind == "robot":
        phrases += [f"{look.accent} lights", f"{world.CHESTS[look.body]} on the chest"]
    if look.top:
        top = world.CREATURE_TOPS[look.kind][look.top]
        if look.kind == "critter":
            head, _, noun = top.rpartition(" ")
            top = (
                _with_color("a {} " + noun, look.accent)
                if head in ("a", "an")
                else f"{head} {look.accent} {noun}".strip()
            )
        elif look.kind == "sprout":
            top = f"{top} on top"
        phrases.append(top)
    return phrases


def hides_eyes(look: Look) -> bool:
    """Whether the eyes cannot be seen: sunglasses leave only faint traces at their rim (tests/test_recipe_data.py)."""
    return look.glasses == "shades"


def mood_phrase(look: Look) -> tuple[str, str]:
    """Expression: mouth ("smiling") and eyes ("happy eyes"), also of eyes that :func:`hides_eyes` hides."""
    if look.kind == "person":
        return world.PERSON_MOUTHS[look.mouth], world.PERSON_EYES[look.eyes]
    return world.CREATURE_MOUTHS[look.kind][look.mouth], world.CREATURE_EYES[look.kind][look.eyes]


def clothes_phrase(look: Look) -> str:
    """ "a blue hoodie"; empty for those who wear nothing."""
    return _with_color(world.OUTFITS[look.outfit][1], look.outfit_color) if look.outfit else ""


def place_phrase(look: Look) -> str:
    """ "in a forest" or "on a red background"."""
    if look.place:
        return world.PLACES[look.place]
    return f"on {article(look.background)} background"


def thing_phrase(look: Look) -> str:
    """ "holding a book", "with a cat beside", or nothing."""
    if not look.thing:
        return ""
    thing = world.THINGS[look.thing]
    return f"holding {thing}" if look.side == "holding" else f"next to {thing}"


OTHER_PLACES = {
    "beach": ("by the sea", "at the beach"), "forest": ("among trees", "in the woods"),
    "snow": ("on a snowy mountain",),
    "city": ("between skyscrapers at night", "in a town at night"), "desert": ("among sand dunes",),
    "meadow": ("on a green hill", "in a flowery field"), "bedroom": ("in front of a bed",),
    "kitchen": ("at a kitchen counter",), "library": ("in front of bookshelves", "among books"),
    "space": ("among the stars", "in outer space"), "underwater": ("in the sea", "below the waves"),
    "sunset": ("in the evening sun",), "workshop": ("in front of a wall of tools",), "rain": ("under rain clouds",),
}  # fmt: skip


def _scene_words(look: Look, rng: random.Random) -> str:
    """The place in the usual or, one time in four, in other words."""
    if look.place and rng.random() < 0.25:
        return rng.choice(OTHER_PLACES[look.place])
    if not look.place and rng.random() < 0.2:
        color = article(look.background)
        return rng.choice((f"against {color} wall", f"before {color} backdrop"))
    return place_phrase(look)


def _thing_words(look: Look, rng: random.Random) -> str:
    """The thing as :func:`thing_phrase` says it or with the side on which it stands."""
    if rng.random() < 0.4:
        return thing_phrase(look)
    thing = world.THINGS[look.thing]
    if look.side == "holding":
        return rng.choice((f"with {thing} in the hands", f"carrying {thing}"))
    side = "left" if look.thing_left else "right"
    return rng.choice((f"with {thing} on the {side}", f"to the {'right' if look.thing_left else 'left'} of {thing}"))


def noun_phrase(look: Look) -> str:
    """ "voxel person", "blobby purple critter"."""
    noun = KIND_NOUN[look.kind]
    if look.kind == "person":
        return noun
    if look.kind == "robot":
        return f"{look.body_color} {noun}"
    if look.kind == "sprout":
        return f"{noun} in {article(world.BODIES['sprout'][look.body])} {look.body_color} pot"
    return f"{world.BODIES[look.kind][look.body]} {look.body_color} {noun}"


def caption(look: Look, rng: random.Random, completeness: float = 0.85) -> str:
    """One caption. Each attribute is mentioned with probability ``completeness``; the kind always is."""

    def mention(phrase: str) -> bool:
        return bool(phrase) and rng.random() < completeness

    identity = [phrase for phrase in identity_phrases(look) if mention(phrase)]
    mouth, eyes = mood_phrase(look)
    gaze = "" if hides_eyes(look) else f"with {eyes}"
    moods = [phrase for phrase in ((mouth, gaze) if rng.random() < 0.5 else (gaze, mouth)) if mention(phrase)]
    rng.shuffle(identity)
    clothes = clothes_phrase(look)
    extras = []
    if mention(clothes):
        wearing = f"wearing {clothes}"
        if rng.random() < 0.35:
            wearing += f", {look.pants} pants and {look.shoes} shoes"
        extras.append(wearing)
    if mention(look.thing):
        extras.append(_thing_words(look, rng))
    subject = article(noun_phrase(look))
    if identity:
        subject += " with " + (", ".join(identity[:-1]) + " and " + identity[-1] if len(identity) > 1 else identity[0])
    # places are the easiest to paint and the most wanted: almost always said
    place = _scene_words(look, rng) if rng.random() < max(0.95, completeness) else ""
    middle = moods + extras if rng.random() < 0.7 else extras + moods
    order = rng.random()
    if order < 0.12:
        opening = rng.choice(("A picture of", "A drawing of", "Draw", "An image showing"))
        parts = [f"{opening} {subject}", *middle, place]
    elif order < 0.7:
        parts = [subject, *middle, place]
    elif order < 0.85:
        parts = [subject, place, *middle]
    else:
        parts = [place[:1].upper() + place[1:], subject, *middle]
    return ", ".join(part for part in parts if part)


def named_caption(look: Look, name: str) -> str:
    """Caption of a known character: name, kind, and only what varies."""
    mouth, eyes = mood_phrase(look)
    clothes = clothes_phrase(look)
    parts = [f"{name}, {article(KIND_NOUN[look.kind])}", mouth]
    parts += [] if hides_eyes(look) else [f"with {eyes}"]
    parts += [f"wearing {clothes}"] if clothes else []
    parts += [thing_phrase(look)] if look.thing else []
    return ", ".join([*parts, place_phrase(look)])
