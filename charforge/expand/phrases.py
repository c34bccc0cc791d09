"""A caption taken apart: what it says about place, clothes, things held, pose and face."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from charforge import grammar
from charforge.character import Character
from charforge.words import word_set

Kind = Literal["place", "clothes", "held", "pose", "action", "beside", "thing"]


@dataclass(frozen=True)
class Phrase:
    """One checkable detail.

    ``text`` fits after "is" ("in a forest", "wearing a hat", "lying down"); for the kind "thing" it is a noun
    phrase ("a happy expression").
    """

    kind: Kind
    text: str


_POSES = word_set("""
    sitting standing lying walking running jumping sleeping resting kneeling dancing flying swimming
    smiling laughing crying frowning winking grinning smirking reading waving
""")
_NOT_ACTIONS = word_set("""
    ceiling morning evening clothing string spring king ring wing living flooring building painting
    nothing something interesting lightning amazing charming
""")
_MOODS = word_set("""
    happy sad angry surprised curious proud shy excited sleepy tired calm worried scared confused bored
    grumpy shocked nervous cheerful puzzled
""")
_NOT_OF_A_BEING = {"resembling", "featuring", "showing", "depicting", "casting", "creating", "evoking"}
_PLACE = r"in front of|next to|on top of|in|on|at|under|inside|near|by|beside|behind|among|outside"
_BESIDE = {"next to", "near", "by", "beside"}
_CLOTHES = word_set("""
    shirt coat jacket dress suit hat scarf apron sweater hoodie uniform robe cape armor armour pyjamas
    pajamas overalls costume cloak vest kimono raincoat
""")
_MASS = word_set("""
    grass snow sand water space rain mist fog bed air light front mud ice town school work home leaves
    darkness sunset sunrise night dawn dusk noon moonlight outdoors indoors sunshine
""")
_PARTS = {"ears", "tongue", "tail", "paws", "belly", "arms", "hands", "mouth"}
_DETERMINER = re.compile(r"^(?:an?|the|my|your|his|her|its|their|some|two|three|four|many|several|front|top)\b", re.I)
_FACE = {"expression", "smile", "face", "gaze", "frown", "grin", "look", "eyes", "mouth", "wink", "teeth"}

# words that say the same thing for the purpose of a false question; each line is one meaning
_SAME = [
    frozenset(line.split())
    for line in """
        carpet carpeted rug mat
        grey gray silver
        happy happily smile smiling joyful joy grinning grin smirking cheerful laughing tongue playful
        resting lying sleeping relaxed sitting
        standing walking running jumping
        shirt sweater hoodie jacket coat top
        sea ocean beach seaside shore
        forest woods trees
        garden yard lawn grass grassy park meadow field
        sad crying frowning unhappy
        surprised shocked scared
        sleepy sleeping tired
        couch sofa
        street city town road path
        curious attentive alert focused inquisitive wide-eyed
        counter countertop kitchen
        snow snowy
        night moon moonlight stars starry
        bed bedroom bedspread cushion blanket
    """.strip().split("\n")
]
_INSIDE = word_set("""
    indoors indoor inside room home house bedroom kitchen floor wooden carpet rug bed couch sofa counter
    countertop workshop library office shop cafe bedspread blanket
""")
_OUTSIDE = word_set("""
    outdoors outdoor outside grass grassy park path garden forest beach leaves street meadow field snow
    snowy mountain mountains desert sea space night
""")
_SURFACES = word_set("""
    floor carpet rug mat bed couch sofa chair armchair cushion counter countertop blanket bedspread table
    bench desk stool shelf pillow windowsill
""")
_TIME = re.compile(r"at (?:sunset|sunrise|dawn|dusk|noon|night|midnight)|in the (?:morning|evening|afternoon)", re.I)
_WIDE_INSIDE = {"indoors", "indoor", "inside", "room", "home", "house"}
_WIDE_OUTSIDE = {"outdoors", "outdoor", "outside"}
_EMPTY = word_set("""
    a an the in on at of and with to is wearing holding by near its his her their under next front
    background setting eyes mouth face cozy soft down expression very pose posture behind beside inside some
""")


def phrases(character: Character, caption: str) -> list[Phrase]:
    """The checkable details of a caption, in order; light, mood, style and lasting traits are left out."""
    return phrases_of(grammar.caption_details(character, caption))


def phrases_of(details: Sequence[str]) -> list[Phrase]:
    """The checkable ones among the parts of a caption."""
    found = [phrase for detail in details if not grammar.is_noise(detail) for phrase in _of_detail(detail)]
    return list(dict.fromkeys(found))


def _of_detail(detail: str) -> list[Phrase]:
    words = detail.split()
    first = words[0].lower()
    if re.match(r"^on (?:an? )?[\w -]+ background$", detail, re.I):
        return [Phrase("place", detail)]
    setting = re.match(
        r"^(?:in\s+)?(?:an?\s+|the\s+)?(.+?)\s+(?:setting|backdrop|environment|background)\b", detail, re.I
    )
    if setting and not re.match(r".*\bin$", setting[1]):
        inner = setting[1].lower()
        if "outdoor" in inner or "indoor" in inner:
            return [Phrase("place", "outdoors" if "outdoor" in inner else "indoors")]
        if len(words) > 1 and words[-1].lower() != "background":
            return [Phrase("place", f"in {grammar.with_article(setting[1])}")]
        return []
    if first in ("indoors", "outdoors"):
        return [Phrase("place", first), *_places(words_after(detail))]
    if len(words) == 1 and first in _MOODS:
        return [Phrase("pose", first)]
    if first == "wearing":
        cut, rest = _cut_place(detail)
        return [Phrase("clothes", re.sub(r"\s+with\s.*$", "", cut)), *rest]
    if first in ("holding", "carrying"):
        cut, rest = _cut_place(detail)
        return [Phrase("held", f"holding {cut.split(' ', 1)[1]}"), *rest] if " " in cut else rest
    if first.endswith("ing") and first not in _NOT_ACTIONS:
        return _of_action(detail, first)
    if re.match(rf"^(?:{_PLACE})\b", detail, re.I):
        if set(re.findall(r"\w+", detail.lower())) & _CLOTHES and first == "in":
            return [Phrase("clothes", f"wearing {words_after(detail)}")]
        return _places(detail)
    if first == "with":
        thing = detail.split(" ", 1)[1] if " " in detail else ""
        cut, rest = _cut_place(thing)
        return [*([Phrase("thing", _noun(cut))] if cut else []), *rest]
    if words[-1].lower() in _FACE or first in ("tongue", "mouth", "ears"):
        return [Phrase("thing", _noun(detail.replace(" with ", " and ")))] if words[-1].lower() != "eyes" else []
    return []


def _of_action(detail: str, first: str) -> list[Phrase]:
    _, rest = _cut_place(detail)
    if first in _NOT_OF_A_BEING:
        return []
    if first in _POSES:
        return [Phrase("pose", "lying down" if first == "lying" else first), *rest]
    return [Phrase("action", detail)]


def _cut_place(text: str) -> tuple[str, list[Phrase]]:
    """ "sitting on a bed" -> "sitting" and the place "on a bed"."""
    match = re.search(rf"\s(?:{_PLACE})\s", text)
    if not match:
        return text, []
    return text[: match.start()].strip(), _places(text[match.start() :].strip())


def _places(text: str) -> list[Phrase]:
    """ "on a path next to a wall" is two places."""
    parts = re.split(r"\s(?=(?:next to|beside|near|behind|in front of|under)\s)", text)
    return [place for part in parts if (place := _place(part))]


def _place(text: str) -> Phrase | None:
    """A place as far as its noun, an article added where it lacks; None for manners ("in playful pose")."""
    text = re.split(r"\s(?:with|while|and looking|wearing|holding)\s", text)[0]
    match = re.match(rf"^({_PLACE})\s+(.+)$", text, re.I)
    if not match or not match[2]:
        return None
    kind: Kind = "beside" if match[1].lower() in _BESIDE else "place"
    last = match[2].split()[-1].lower()
    if last in (
        "pose",
        "posture",
        "background",
        "mood",
        "style",
        "way",
        "manner",
        "person",
        "side",
        "color",
        "colour",
    ):
        return None
    if not _DETERMINER.match(match[2]) and not last.endswith("s") and last not in _MASS:
        return Phrase(kind, f"{match[1].lower()} {grammar.with_article(match[2])}")
    return Phrase(kind, f"{match[1].lower()} {match[2]}")


def _noun(text: str) -> str:
    """A noun phrase with an article where a singular one lacks it: "happy expression" -> "a happy
    expression".
    """
    last = text.split()[-1].lower() if text else ""
    return grammar.with_article(text) if last in _FACE - {"eyes"} and not _DETERMINER.match(text) else text


def words_after(text: str) -> str:
    """Everything after the first word."""
    return text.split(" ", 1)[1] if " " in text else ""


def meanings(text: str) -> set[str]:
    """The content words of a phrase, words of one meaning made one: to find what is surely not there."""
    found: set[str] = set()
    for word in re.findall(r"[a-z]+(?:-[a-z]+)*", text.lower()):
        if word in _EMPTY:
            continue
        same = next((index for index, group in enumerate(_SAME) if word in group), None)
        # five letters stand for the word: "carpeted" meets "carpet", "wooden" meets "wood"
        found.add(f"={same}" if same is not None else word[:5].rstrip("s"))
    return found


def surely_absent(phrase: Phrase, caption: str, own: list[Phrase]) -> bool:
    """Whether a phrase of another picture may be asked here with the answer no.

    The caption must speak of the same kind of thing (a picture whose place is not told may be anywhere),
    share no
    meaning with the phrase, and not merely be a narrower word for it (a bed is indoors).
    """
    if not any(mine.kind == phrase.kind for mine in own) or meanings(phrase.text) & meanings(caption):
        return False
    words, here = set(re.findall(r"[a-z]+", phrase.text.lower())), set(re.findall(r"[a-z]+", caption.lower()))
    if words & _WIDE_INSIDE:
        return bool(here & _OUTSIDE) and not here & _INSIDE
    if words & _WIDE_OUTSIDE:
        return bool(here & _INSIDE) and not here & _OUTSIDE
    places = {mine.text for mine in own if mine.kind == "place"}
    if phrase.kind == "place" and places <= {"indoors", "outdoors"}:
        # only the side is told: a place on the other side is the only one that is surely not it
        return bool(words & (_OUTSIDE if places == {"indoors"} else _INSIDE))
    if phrase.kind == "place":
        # at sunset one may be anywhere
        where = {place for place in places if not is_a_time(place)}
        return bool(where) and not is_a_time(phrase.text) and _excludes(phrase.text, where)
    if phrase.kind == "pose" and phrase.text not in _FACES_OF_POSE:
        # two poses exclude each other only where both are of the body
        return any(mine.kind == "pose" and mine.text not in _FACES_OF_POSE for mine in own)
    if phrase.kind == "pose":
        return any(mine.text in _FACES_OF_POSE for mine in own) or any("expression" in mine.text for mine in own)
    if phrase.kind == "thing":
        others = [mine for mine in own if slot(mine) == slot(phrase)]
        return slot(phrase) != "thing" and any(_other_eyes(phrase.text, mine.text) for mine in others)
    return True


def _other_eyes(one: str, other: str) -> bool:
    """Whether two looks of the eyes exclude each other: wide, happy and starry eyes are all open."""
    open_eyes = [words for words in (one, other) if words.split() == ["open", "eyes"]]
    return not open_eyes or "closed" in f"{one} {other}".split()


_FACES_OF_POSE = {"smiling", "laughing", "crying", "frowning", "winking", "grinning", "smirking", *_MOODS}


def _excludes(place: str, told: set[str]) -> bool:
    """Whether being at ``place`` is out of the question when the told places are true.

    What one sits on does not say in which room: "on a wooden floor" may be in a kitchen, but not on a beach.
    """
    words, here = set(place.lower().split()), {word for text in told for word in text.lower().split()}
    if (words & _OUTSIDE and here & _INSIDE) or (words & _INSIDE and here & _OUTSIDE):
        return True
    on_something = bool(words & _SURFACES)
    narrow = told - {"indoors", "outdoors"}
    return any(bool(set(text.lower().split()) & _SURFACES) == on_something for text in narrow)


def is_a_time(place: str) -> bool:
    """Whether a "place" says when rather than where: "at sunset"."""
    return _TIME.fullmatch(place) is not None


def slot(phrase: Phrase) -> str:
    """What a phrase answers: two phrases of one slot exclude each other ("wide eyes", "closed eyes")."""
    if phrase.kind != "thing":
        return phrase.kind
    words = phrase.text.lower().split()
    last = words[-1]
    if last == "eyes" or last in _FACE:
        return "eyes" if last == "eyes" else "face"
    # "ears perked up" excludes other ears, and no tongue
    return next((word for word in words if word in _PARTS), "thing")
