"""Captions judged before training: they should say what varies in a picture, and nothing else.

What stands in every caption is learned with those words and not with the name: asked for by name alone, the character
comes without it. docs/log.md ("Caption lint") says how often this is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from charforge.character.character import Character
from charforge.errors import Problem
from charforge.words import word_set

MOST = 0.8
"""Share of the captions from which on words are said to stand in most of them."""
FEWEST = 4
"""With fewer captions nothing can be said about what varies."""
LONGEST = 6
"""Words of a phrase that are looked at together."""
TOLD = 6
"""Phrases that are named in one line."""

_SMALL = word_set("""
    a an the and or of in on at to by for with without from into over under near next beside behind before through
    is are was be being has have its it his her their this that there as while who which one two some very
""")
_FUNCTION = _SMALL | word_set("""
    wearing holding carrying standing sitting looking showing shown seen posing facing lying
    background foreground scene view
""")
_TRAIT = re.compile(
    r"\b(?:(?:(?:black|white|gr[ae]y|silver|brown|blond|blonde|red|ginger|orange|yellow|golden|green|blue|teal|purple|"
    r"violet|pink|dark|light|pale|tan|long|short|curly|wavy|straight|spiky|braided)[\s-]+)+(?:\w+[\s-]+)?"
    r"(?P<part>hair|fur|mane|beard|eyes|scales|feathers|twin ?tails|pony ?tails?|braids?)|"
    r"(?:(?:dark|light|pale)[\s-]+)?(?!(?:with|and|of|the|her|his|its|a)\b)\w+[\s-]+(?P<skin>skin))\b"
)
_CLOTHES = re.compile(r"\b(?:wearing|holding|carrying|coat|jacket|hat|scarf|dress|boots|gloves)\b")
_TRIGGERS = re.compile(
    r"""
    \b(?:ohwx|sks|zwx|shs|bnha|tok|hta|xyz123)\b
    | \bscore_\d+(?:_up)?\b | \bsource_\w+ | \brating[_:]\s*\w+
    | <(?:lora|lyco|hypernet)[^>]*> | \[(?:filewords|name|trigger)\] | \(\s*[^()]*:\s*\d+(?:\.\d+)?\s*\)
    | \b(?:masterpiece|(?:best|high|highest|normal|low|worst)[ _]quality|absurdres|highres|newest|very[ _]aesthetic)\b
    | \b[1-6](?:girl|boy|other)s?\b | (?<![\w-])solo(?![\w-])
    """,
    re.X | re.I,
)
"""What trainers and models for other programs ask for; charforge's model has never seen these words."""


def judge_captions(character: Character) -> list[Problem]:
    """Warnings about the captions as a whole, with what to do. Nothing for fewer than ``FEWEST`` captions."""
    captions = [picture.caption for picture in character.pictures if picture.caption]
    names = [picture.name for picture in character.pictures if picture.caption]
    of = len(captions)
    if of < FEWEST:
        return []
    problems: list[Problem] = []

    def warn(problem: str, remedy: str) -> None:
        problems.append(Problem("captions", "warning", problem, remedy))

    foreign = foreign_words(captions, character.name)
    shared = shared_phrases([_without_foreign(text) for text in captions], character.name, character.class_noun)
    left = without_phrases(captions[0], [*foreign, *shared])
    example = f'; the caption of {names[0]} would then be "{left}"' if left else ""
    if foreign:
        told = f"have words that other trainers ask for: {_listed(foreign)}"
        remedy = "remove them: charforge puts name and class in front, and its base knows no such words"
        warn(told, remedy + ("" if shared else example))
    if shared:
        least = min(shared.values())
        how_many = f"all {of}" if least == of else f"{least} or more of {of}"
        told = f"the same words stand in {how_many} captions: {_listed(shared)}"
        remedy = f"leave them out of all captions: what never varies is then learned with the name {character.name}"
        warn(told, f"{remedy}, and comes without being asked for{example}")
    traits = [trait for trait in lasting_traits(captions, character.appearance) if trait not in " ".join(shared)]
    if traits:
        told = f"say how {character.name} always looks: {_listed(traits)}"
        warn(told, "leave it out of the captions (it belongs into the section Appearance): captions say what varies")
    groups = [group for group in equal_captions(names, captions) if len(group) > 2 or 2 * len(group) > of]
    for group in groups:
        told = f"{len(group)} of {of} pictures have the same caption ({', '.join(group[:TOLD])})"
        warn(told, "write into each what is different in it: clothes, expression, place, thing held")
    return problems


def _listed(phrases: Iterable[str]) -> str:
    told = [f'"{phrase}"' for phrase in phrases]
    return ", ".join(told[:TOLD]) + (f" and {len(told) - TOLD} more" if len(told) > TOLD else "")


def foreign_words(captions: Sequence[str], name: str) -> list[str]:
    """Trigger words, quality tags and weights of other trainers, the commonest first; and the name as a tag."""
    counted = Counter(match[0].strip().lower() for text in captions for match in _TRIGGERS.finditer(text))
    tag = Counter(part.strip() for text in captions for part in text.split(",") if part.strip() != name)
    # "wren" for Wren: a trigger word, where the name in its own letters would be the name
    counted.update({word: count for word, count in tag.items() if word.casefold() == name.casefold()})
    return [word for word, _ in counted.most_common()]


def _without_foreign(caption: str) -> str:
    return _TRIGGERS.sub(" ", caption)


def without_phrases(caption: str, phrases: Sequence[str]) -> str:
    """The caption without the parts between commas that say nothing beside ``phrases``, and without trigger words."""
    kept = []
    for part in _without_foreign(caption).split(","):
        rest = " ".join(_words(part))
        for phrase in sorted(phrases, key=len, reverse=True):
            rest = re.sub(rf"(?<!\w){re.escape(' '.join(_words(phrase)))}(?!\w)", " ", rest)
        if set(rest.split()) - _SMALL:
            kept.append(" ".join(part.split()))
    return ", ".join(kept)


def shared_phrases(captions: Sequence[str], name: str, noun: str) -> dict[str, int]:
    """The longest phrases that stand in ``MOST`` captions, with how many have them; name and class do not count.

    A noun whose adjective changes ("open eyes", "sleepy eyes") is a place for what varies, and no such phrase.
    """
    own = set(_words(name)) | set(_words(noun))
    parts = [[_words(part) for part in re.split(r"[,.;:!?()\n]", text)] for text in captions]
    counts: Counter[tuple[str, ...]] = Counter()
    for caption in parts:
        counts.update({gram for part in caption for gram in _grams(part)})
    least = max(FEWEST - 1, MOST * len(captions))
    common = {
        gram: count
        for gram, count in counts.items()
        if count >= least and set(gram) - _FUNCTION - own and not _is_slot(gram, parts)
    }
    longest = [gram for gram in common if not any(_inside(gram, other) for other in common)]
    told = {" ".join(_trimmed(gram, own)): common[gram] for gram in longest}
    order = [" ".join(word for part in caption for word in part) for caption in parts]
    return dict(sorted(told.items(), key=lambda item: (-item[1], min(_place(item[0], text) for text in order))))


def _place(phrase: str, text: str) -> int:
    """Where the phrase stands in the text; behind everything when it does not."""
    at = text.find(phrase)
    return at if at >= 0 else len(text)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’_-][^\W_]+)*", text.lower())


def _grams(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    for length in range(1, min(LONGEST, len(words)) + 1):
        for start in range(len(words) - length + 1):
            yield tuple(words[start : start + length])


def _inside(gram: tuple[str, ...], other: tuple[str, ...]) -> bool:
    size = len(gram)
    return size < len(other) and any(other[at : at + size] == gram for at in range(len(other) - size + 1))


def _trimmed(gram: tuple[str, ...], own: set[str]) -> tuple[str, ...]:
    """Without the small words and the name at its ends."""
    idle = _SMALL | own
    first = next(at for at, word in enumerate(gram) if word not in idle)
    last = next(at for at in range(len(gram) - 1, -1, -1) if gram[at] not in idle)
    return gram[first : last + 1]


def _is_slot(gram: tuple[str, ...], captions: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Whether the one word of substance in ``gram`` goes with what varies, or has no company of its own at all."""
    heavy = [word for word in gram if word not in _FUNCTION]
    if len(heavy) != 1:
        return False
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for words in (words for caption in captions for words in caption):
        padded = ["", *words, ""]
        for at, word in enumerate(padded):
            if word == heavy[0]:
                before[padded[at - 1]] += 1
                after[padded[at + 1]] += 1
    chosen = Counter({word: count for word, count in before.items() if word and word not in _FUNCTION})
    # one adjective that is nearly always there is no choice
    varies = len(chosen) > 1 and sum(chosen.values()) - max(chosen.values()) >= 2
    half = sum(before.values()) / 2
    return varies or max(*before.values(), *after.values()) < half


def lasting_traits(captions: Sequence[str], appearance: str) -> list[str]:
    """Hair, fur, skin, eyes and the like that two or more captions tell, and always in the same way.

    Where captions tell a trait in different ways it varies, and belongs there.
    """
    described = {" ".join(words) for part in re.split(r"[,.;\n]", appearance) for words in _pairs(_words(part))}
    told: Counter[str] = Counter()
    ways: dict[str, set[str]] = {}
    for text in captions:
        found: dict[str, str] = {}
        for part in text.lower().split(","):
            if _CLOTHES.search(part):
                continue
            found |= {match[0]: match["part"] or match["skin"] for match in _TRAIT.finditer(part)}
            found |= {" ".join(words): words[-1] for words in _pairs(_words(part)) if " ".join(words) in described}
        told.update(found.keys())
        for phrase, kind in found.items():
            ways.setdefault(kind, set()).add(phrase)
    return [phrase for phrase, count in told.most_common() if count > 1 and _is_one(phrase, ways)]


def _is_one(phrase: str, ways: dict[str, set[str]]) -> bool:
    """Whether every way in which the same trait is told says the same or a part of it."""
    return all(all(phrase in other or other in phrase for other in told) for told in ways.values() if phrase in told)


def _pairs(words: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Two words of substance side by side."""
    for first, second in pairwise(words):
        if first not in _FUNCTION and second not in _FUNCTION:
            yield first, second


def equal_captions(names: Sequence[str], captions: Sequence[str]) -> list[list[str]]:
    """Names of pictures whose captions have the same words, in groups of two or more."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, text in zip(names, captions, strict=True):
        groups.setdefault(tuple(sorted(set(_words(text)))), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
