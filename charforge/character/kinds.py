"""What a character is, by the user's own words: by a field that declares it, or by a sentence that says it *is* so.

Not by what it was or was as a child, what others say, what it has or mentions, what it is like or is on a stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charforge.character.nouns import ANIMALS, animal_of, is_general, names_a_being, noun_of, noun_of_two
from charforge.character.other_kinds import foreign_claim
from charforge.character.statements import LEAD, Field, Sentence, fields, name_pattern, sentences_of

SURE = 0.8


@dataclass(frozen=True)
class Claim:
    """A noun for the character, the sentence or field it rests on, and how likely it is right, from 0 to 1."""

    noun: str
    evidence: str
    confidence: float


_ADVERB = (
    r"(?:also|still|now|currently|actually|really|essentially|basically|officially|simply|just|both|in fact|today)"
)
_NOT_ITSELF = re.compile(
    r"\b(?:when|whenever|as long as|compared|in (?:his|her|their|its|my) (?:own )?(?:mind|eyes?|head|opinion|dreams?|"
    r"imagination)|in the (?:eyes|mind|opinion) of|in (?:the|a) (?:\w+ )?(?:play|film|movie|musical|game|dream)|"
    r"in (?:a|another|his|her|their|my) (?:past|former|previous|next) life|on stage|for Halloween|only to|"
    r"like (?:a|an)\b.* (?:of|to))\b"
)
_METAPHOR = re.compile(
    r"^(?:real|total|complete|absolute|bit|such|regular|perfect|walking|living|true|veritable)\s", re.I
)
_NOTHING = re.compile(r"^(?:unknown|none|n/?a|not (?:stated|known|given)|undisclosed|classified|\W*|\?+)$", re.I)
_KINDS = ("species", "race", "breed", "creature", "kind", "type", "art", "especie", "espèce", "razza", "種族", "物种")
_TRADES = (
    "occupation",
    "job",
    "profession",
    "work",
    "career",
    "role",
    "position",
    "beruf",
    "profesión",
    "職業",
    "职业",
)
_HUMAN = re.compile(r"^(?:human|human being|person|homo sapiens|mensch|humano|humana|人間|人类)\b", re.I)
_GENDERS = {
    "woman": re.compile(
        r"^(?:female|woman|f|cis(?:gender)? (?:female|woman)|trans(?:gender)? (?:female|woman))\b", re.I
    ),
    "man": re.compile(r"^(?:male|man|m|cis(?:gender)? (?:male|man)|trans(?:gender)? (?:male|man))\b", re.I),
}
ADULT = 18


def kind_of(name: str, text: str, breed: str = "", captions: Sequence[str] = ()) -> Claim | None:
    """The best claim of what the character is; None where nobody says it.

    ``text`` is everything that is written about it, ``breed`` what a field of its own declares; ``captions`` may only
    tell which animal a breed is of.
    """
    said = claims(name, sentences_of(text, name))
    told = fields(text)
    declared = _declared(told, breed)
    best = max(said, key=lambda claim: claim.confidence, default=None)
    if declared is not None and not _HUMAN.match(declared.noun):
        if best is not None and best.confidence >= SURE and declared.noun.lower() in best.noun.lower().split():
            return best  # "Species: robot" and "is a clay robot": the sentence says more
        return Claim(_with_animal(declared.noun, said, captions), declared.evidence, declared.confidence)
    person = _person(told, declared)
    if best is not None and not (is_general(best.noun) and person is not None):
        return best
    trade = _trade(told)
    return max((claim for claim in (best, person, trade) if claim), key=lambda claim: claim.confidence, default=None)


def claims(name: str, told: Iterable[Sentence]) -> list[Claim]:
    """Everything that the sentences say the character is."""
    subject = name_pattern(name)
    found = [claim for sentence in told if (claim := _claim(subject, name, sentence)) is not None]
    return [claim for claim in found if claim.noun]


def _claim(subject: str, name: str, sentence: Sentence) -> Claim | None:
    said = sentence.said
    if said.endswith(("?", "？")):
        return None
    be = rf"(?:\s+is|\s+am|['’]s|['’]m|\s*[—–-]\s*is)\s+(?:{_ADVERB}\s+)*"
    own = rf"^{LEAD}(?P<who>{subject}|He|She|They|It|I)"
    patterns = (
        (rf"{own}(?:\s*,\s[^,]{{1,80}},)?{be}(?P<the>an?|the)\s+(?P<rest>.+)$", 0.95),
        (rf"{own}\s+are\s+(?:{_ADVERB}\s+)*(?P<the>an?)\s+(?P<rest>.+)$", 0.9),
        (rf"^(?:This is|Meet|You are|You're)\s+(?P<who>{subject})\s*,\s+(?P<the>an?|the)\s+(?P<rest>.+)$", 0.95),
        (rf"^{LEAD}(?P<who>{subject})\s*(?:,|[—–-])\s*(?P<the>an?|the)\s+(?P<rest>.+)$", 0.85),
        (rf"^(?P<who>{subject}|He|She|They)(?P<the>)\s+(?:works?|serves?)\s+as\s+(?:an?|the)\s+(?P<rest>.+)$", 0.75),
        (r"^(?P<who>)(?P<the>[Aa]n?)\s+(?P<rest>.+)$", 0.7),
    )  # fmt: skip
    for pattern, confidence in patterns:
        match = re.match(pattern, said)
        if match is None:
            continue
        who, rest = match["who"], match["rest"]
        if who in ("He", "She", "They", "It") and not sentence.known:
            return None
        if not who and (
            sentence.key not in ("appearance", "looks", "description", "", "about") or not _is_fragment(rest)
        ):
            return None
        if _NOT_ITSELF.search(rest) or _METAPHOR.match(rest):
            return None
        noun = noun_of(rest)
        if not noun:
            return None
        being = names_a_being(noun.split()[-1])
        proper = noun[0].isupper()
        if (not being and not proper and (match["the"] == "the" or not who or who in ("It", "They"))) or (
            who == "I" and not being and not proper
        ):
            return None
        confidence -= 0.3 * (not being) - 0.1 * (proper and not being)
        confidence -= 0.3 * (match["the"] == "the") + 0.05 * (who in ("He", "She", "They", "It", "I"))
        confidence -= 0.25 * is_general(noun)
        return Claim(noun, sentence.text, round(confidence, 2))
    if re.search(r"\s(?:and|&)\s", name):
        both = re.match(rf"^{LEAD}(?:{re.escape(name)}|They)\s+are\s+(?:{_ADVERB}\s+)*(?P<rest>.+)$", said)
        pair = noun_of_two(both["rest"]) if both and (sentence.known or not said.startswith("They")) else ""
        return Claim(pair, sentence.text, 0.9) if pair else None
    claim = foreign_claim(subject, said)
    return Claim(claim, sentence.text, 0.85) if claim else None


def _is_fragment(rest: str) -> bool:
    """Whether a phrase that begins a description has no verb of its own: "A red and white husky with blue eyes"."""
    head = re.split(r"[,;.]? (?:with|who|whose|that|from|of|in)\b", rest)[0]
    return not re.search(r"\b(?:is|are|was|were|has|had|can|will|would|\w+ed by)\b", head)


def _declared(told: Sequence[Field], breed: str) -> Claim | None:
    """A field that says of what species or breed it is."""
    lines = [Field("breed", breed, f"Breed: {breed}"), *told] if breed else list(told)
    for key in _KINDS:
        for line in lines:
            value = re.split(r"[,;(/、+]", line.value)[0].strip().rstrip(".。")
            if line.key != key or not value or _NOTHING.match(value) or len(value.split()) > 5:
                continue
            if line.key in ("kind", "type", "creature") and not names_a_being(value.split()[-1]):
                continue
            value = re.sub(r"^(?:an?|the)\s+", "", value, flags=re.IGNORECASE)
            one = len(value.split()) == 1 and names_a_being(value)
            return Claim(value.lower() if one else value, line.line, 0.95)
    return None


def _with_animal(breed: str, said: Sequence[Claim], captions: Sequence[str]) -> str:
    """The breed with its animal, where a sentence or most captions say which it is: "Shiba Inu" -> "Shiba Inu dog"."""
    if names_a_being(breed.split()[-1]) or not breed.isascii():
        return breed
    animals = [animal for claim in said if (animal := animal_of(claim.noun))]
    for animal, forms in ANIMALS.items():
        named = sum(bool(forms & set(re.findall(r"[a-z]+", text.lower()))) for text in captions)
        if captions and 2 * named > len(captions):
            animals.append(animal)
    return f"{breed} {animals[0]}" if animals else breed


def _person(told: Sequence[Field], declared: Claim | None) -> Claim | None:
    """A human being by gender and age; without "Species: human" only where an age or a trade tells a grown person."""
    gender = next((field for field in told if field.key in ("gender", "sex")), None)
    age = next((field for field in told if field.key in ("age", "born") and re.search(r"\d", field.value)), None)
    years = re.search(r"\bage (\d+)|^\D{0,12}(\d{1,3})(?!\d)", age.value) if age is not None else None
    grown = years is not None and ADULT <= int(years[1] or years[2]) < 110
    if declared is None and not grown:
        return None
    word = "person"
    if gender is not None:
        word = next((noun for noun, form in _GENDERS.items() if form.match(gender.value)), "person")
        if years is not None and not grown and word != "person":
            word = {"woman": "girl", "man": "boy"}[word] if int(years[1] or years[2]) < ADULT else word
    elif declared is None:
        return None
    if word == "person" and declared is None:
        return None
    lines = [field.line for field in (gender, age) if field is not None]
    evidence = "; ".join([*([declared.evidence] if declared else []), *lines])
    return Claim(word, evidence, 0.85 if declared is not None else 0.6)


def _trade(told: Sequence[Field]) -> Claim | None:
    """What it does for a living."""
    for field in told:
        value = re.split(r"[,;(/、+]|\band\b", field.value)[0].strip().rstrip(".")
        if field.key not in _TRADES or not value or _NOTHING.match(value) or len(value.split()) > 4:
            continue
        noun = noun_of(re.sub(r"^(?:an?|the)\s+", "", value, flags=re.IGNORECASE).lower()) if value.isascii() else value
        if noun and (not noun.isascii() or names_a_being(noun.split()[-1])):
            return Claim(noun, field.line, 0.7)
    return None
