"""A card as a profile, dialogues and lore: what a character folder would have said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charforge.character.attributes import REMEDY, UNREAD, Attributes, attributes_as_lines
from charforge.character.cards.card import Card
from charforge.character.cards.lorebook import told_by
from charforge.character.cards.macros import resolved
from charforge.character.character import Dialogue, Lore
from charforge.character.cleaning import cleaned, one_line
from charforge.character.notes import Notes
from charforge.character.profile import Profile, key_values, spoken
from charforge.character.readers.text_logs import read_text_log
from charforge.character.speakers import Names
from charforge.full_stops import ended

_PERSONA = ("personality", "description", "persona", "character", "mind", "traits")
_VOICE = ("voice", "speech", "speaking style", "speech style", "linguistic habits")
_LOOKS = ("appearance", "looks", "physical description", "physical characteristics", "body", "features")
_NAME = ("name", "full name")


@dataclass(frozen=True)
class Described:
    """A card's profile, and what it tells about others."""

    profile: Profile
    lore: tuple[Lore, ...]


def card_profile(card: Card, names: Names, file: str, notes: Notes) -> Described:
    """Name, persona, voice, appearance, opening, facts and lore of a card. Unknown macros become one warning.

    ``names.name`` is what the character is called in the end: macros become that name.
    """
    unknown: set[str] = set()

    def plain(text: str, field: str) -> str:
        clean = cleaned(text)
        if clean.removed:
            notes.change(file, field, "field", f"{', '.join(clean.removed)} removed")
        return resolved(clean.text, names.name, "you", unknown)

    def told_in(text: str, field: str) -> Attributes:
        listed = attributes_as_lines(plain(text, field))
        for piece in listed.unread:
            notes.pass_over(file, field, "field", piece, UNREAD, REMEDY)
            notes.warn(
                f"{file} {field}", f"has a piece of an attribute list that cannot be read: {piece[:60]!r}", REMEDY
            )
        return listed

    description = told_in(card.description, "description").text
    pairs, prose = _sorted_lines(description)
    fields = {key.lower(): value for key, value in reversed(pairs)}

    def first(keys: Sequence[str]) -> str:
        return next((fields[key] for key in keys if key in fields), "")

    profile = Profile(name=one_line(card.name))
    as_told, scenario = told_in(card.personality, "personality"), told_in(card.scenario, "scenario").text
    told_personality = as_told.text
    listed, personality = _sorted_lines(told_personality)
    if as_told.is_list:
        # an attribute list in this field says what one in the description would
        pairs += [pair for pair in listed if pair not in pairs]
        fields = {key.lower(): value for key, value in reversed(pairs)}
        personality = " ".join(personality.split())
    else:
        personality = " ".join(told_personality.split())
    described = [prose, *(value for key, value in pairs if key.lower() in _PERSONA)]
    profile.persona = _one_after_another(described) or personality
    profile.voice = first(_VOICE) or (personality if profile.persona != personality else "")
    profile.appearance = first(_LOOKS)
    profile.opening = spoken(plain(card.first_mes, "first_mes"))
    profile.author = card.creator.strip()
    profile.text = "\n".join([description, told_personality])
    profile.about = _all_of(description, told_personality, scenario, plain(card.system_prompt, "system_prompt"))
    used = {*_PERSONA, *_NAME}
    for keys, value in ((_VOICE, profile.voice), (_LOOKS, profile.appearance)):
        used |= {key for key in keys if fields.get(key) == value}
    profile.facts = [f"{key}: {value}" for key, value in pairs if key.lower() not in used]
    if first(_VOICE) and personality and personality not in profile.persona:
        profile.facts.append(f"Personality: {personality}")
    told = told_by(card.entries, names, file, notes)
    profile.facts += told.facts
    _account(card, file, notes)
    if unknown:
        words = ", ".join(f"{{{{{word}}}}}" for word in sorted(unknown)[:5])
        notes.warn(file, f"has macros that are not known: {words}", "they were left out")
    return Described(profile, tuple(told.lore))


def card_texts(card: Card) -> list[str]:
    """Where a card names others: its example messages, and what its entries are about, a line "NAME:" each."""
    about = [f"{subject}:" for entry in card.entries for subject in (entry.title, *entry.keys)]
    return [card.mes_example, "\n".join(about)]


def _all_of(*texts: str) -> str:
    """The texts one after the other, a line that ends without a mark as a sentence of its own."""
    lines = [_prose(line).strip() for text in texts for line in text.split("\n")]
    return " ".join(" ".join(ended(line) for line in lines if line).split())


def _one_after_another(parts: Iterable[str]) -> str:
    """Prose and the values of fields as sentences; one alone stays to the letter."""
    told = [" ".join(part.split()) for part in parts if part.strip()]
    if len(told) < 2:
        return "".join(told)
    return " ".join(ended(part) for part in [told[0], *(part[0].upper() + part[1:] for part in told[1:])])


def _account(card: Card, file: str, notes: Notes) -> None:
    """Say of every field whether it is in the character."""
    for remark in card.remarks:
        notes.warn(file, remark, "nothing to do, if what `charforge check --verbose` shows is right")
    read = {"description", "personality", "first_mes"}
    notes.take(file, "field", sum(1 for field in read if getattr(card, field).strip()))
    for field, text, reason in card.unread:
        notes.pass_over(file, field, "field", text, reason)


def _sorted_lines(description: str) -> tuple[list[tuple[str, str]], str]:
    """The "Key: value" lines of a description, and its prose."""
    pairs: list[tuple[str, str]] = []
    prose: list[str] = []
    for line in description.split("\n"):
        found = key_values(line.strip().strip("[]{}"))
        if found and len(found[0][0].split()) <= 3 and not found[0][0].lower().endswith((" says", " said")):
            pairs.append(found[0])
        elif line.strip():
            prose.append(_prose(line))
    return pairs, " ".join(prose)


def card_dialogues(card: Card, names: Names, file: str, notes: Notes) -> list[Dialogue]:
    """The example messages, a dialogue a ``<START>`` block. Greetings answer nobody and are no dialogues."""
    if not card.mes_example.strip():
        return []
    text = re.sub(r"(?<!\n)<START>", "\n<START>", card.mes_example, flags=re.IGNORECASE)
    text = re.sub(r"<START>", "<START>\n", text, flags=re.IGNORECASE)
    where = f"{file} mes_example"
    mine = Notes()
    dialogues = read_text_log(text, where, names, mine, log=False, lenient=True)
    # whatever stands before a block's first speaker is narration
    notes.problems += [problem for problem in mine.problems if "before the first speaker" not in problem.problem]
    notes.entries += mine.entries
    notes.spoken += mine.spoken
    lost = [entry for entry in mine.entries if not entry.taken and entry.kind == "turn"]
    if lost:
        some = "a line of it teaches" if len(lost) == 1 else f"{len(lost)} lines of it teach"
        reason = f"{some} nothing: {lost[0].reason}"
        notes.warn(where, reason, "write examples as {{user}}: ... and {{char}}: ..., one after the other")
    return dialogues


def _prose(text: str) -> str:
    """Running text without the brackets and plus signs of attribute lists."""
    return re.sub(r"[\[\]{}]|\bW\+\+", " ", text.replace("+", ", "))
