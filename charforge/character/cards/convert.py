"""A card as a profile and dialogues: what a character folder would have said."""

from __future__ import annotations

import re
from dataclasses import replace

from charforge.character.cards.card import Card, Entry
from charforge.character.cards.macros import resolved
from charforge.character.character import Dialogue
from charforge.character.dialogues import parse_text
from charforge.character.profile import Profile, guess_class_noun, key_values, sentences
from charforge.errors import Problem

LONGEST_FACT = 30
"""Words. A lorebook entry may be a page: its sentences are the facts."""


def card_profile(card: Card, file: str, problems: list[Problem]) -> Profile:
    """Name, persona, voice, appearance, opening and facts of a card. Unknown macros become one warning."""
    unknown: set[str] = set()
    name = card.name.strip()

    def plain(text: str) -> str:
        return resolved(text, name, "you", unknown)

    description = plain(card.description)
    pairs = key_values(description)

    def first(*keys: str) -> str:
        return next((value for key, value in pairs if key.lower() in keys), "")

    profile = Profile(name=name)
    profile.persona = " ".join((_prose(description) if not pairs else first("personality", "description")).split())
    profile.persona = profile.persona or " ".join(plain(card.personality).split())
    profile.voice = first("voice", "speech", "speaking style", "speech style") or (
        " ".join(plain(card.personality).split()) if profile.persona else ""
    )
    if profile.voice == profile.persona:
        profile.voice = ""
    profile.appearance = first("appearance", "looks", "physical description", "physical characteristics")
    profile.opening = " ".join(_spoken(plain(card.first_mes)).split())
    profile.author = card.creator.strip()
    profile.class_noun = guess_class_noun(first("species", "race", "breed"), f"{description} {plain(card.scenario)}")
    profile.facts = entry_facts(card.entries, name, unknown)
    if unknown:
        told = ", ".join(f"{{{{{word}}}}}" for word in sorted(unknown)[:5])
        problems.append(Problem(file, "warning", f"has macros that are not known: {told}", "they were left out"))
    return profile


def entry_facts(entries: tuple[Entry, ...], name: str, unknown: set[str]) -> list[str]:
    """One fact a sentence, from the entries that are switched on."""
    facts: list[str] = []
    for entry in entries:
        if not entry.enabled:
            continue
        text = resolved(entry.content, name, "you", unknown)
        for line in text.split("\n"):
            told = sentences(line.strip().lstrip("-*• ").strip())
            facts += [fact for fact in told if len(fact.split()) <= LONGEST_FACT]
    return list(dict.fromkeys(facts))


def card_dialogues(card: Card, file: str, problems: list[Problem]) -> list[Dialogue]:
    """The example messages, a dialogue a ``<START>`` block. Greetings answer nobody and are no dialogues."""
    unknown: set[str] = set()
    text = re.sub(r"(?<!\n)<START>", "\n<START>", card.mes_example, flags=re.IGNORECASE)
    text = re.sub(r"<START>", "<START>\n", text, flags=re.IGNORECASE)
    # speakers first, so that "{{user}}:" stays a speaker and "{{user}}" inside a sentence becomes "you"
    text = re.sub(r"^\s*(?:\{\{user\}\}|<USER>)\s*:", "User:", text, flags=re.IGNORECASE | re.MULTILINE)
    text = resolved(text, card.name.strip(), "you", unknown)
    # whatever stands before a block's first speaker is narration
    found: list[Problem] = []
    dialogues = parse_text(text, f"{file} mes_example", card.name.strip(), found)
    # examples are somebody's, not the user's own dialogues: what cannot be used is told and left out
    told = [problem for problem in found if "before the first speaker" not in problem.problem]
    problems += [replace(problem, level="warning") for problem in told]
    return dialogues


def _prose(text: str) -> str:
    """Running text without the brackets and plus signs of attribute lists."""
    return re.sub(r"[\[\]{}]|\bW\+\+", " ", text.replace("+", ", "))


def _spoken(text: str) -> str:
    """A greeting without the asterisks around its narration."""
    return text.replace("*", "")
