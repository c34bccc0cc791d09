"""Asked for a picture: the character sends it, and its plan says what was asked.

Example dialogues come with pictures that nobody asked for. From them alone a character learns to plan now and then,
and answers "Send me a picture of you on the beach" with talk (docs/log.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from charforge import grammar
from charforge.character import Character
from charforge.expand.habits import habits, voiced
from charforge.expand.holdout import HeldOut
from charforge.expand.pairs import Split
from charforge.expand.phrases import Phrase, phrases
from charforge.expand.scenes import ordered, scene_details

HELD_OUT_OF = 3
"""One of so many requests is held out."""
MOST_DETAILS = 3
"""In one request: people seldom ask for more at once."""

_WORDINGS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Send me a picture of you {}.", "Can you show me a picture of yourself {}?", "Show me what you look like {}.",
        "I would love to see you {}.", "Could you send a photo of you {}?", "Please draw yourself {}.",
        "What do you look like {}?", "Please take a picture of yourself {}.", "Let me see you {}.",
        "Do you have a picture of you {}?",
    ),
    "held_out": ("May I have a photo of you {}?", "I want a picture of you {}.", "How do you look {}?"),
}  # fmt: skip
_ANYHOW = (
    "Send me a picture of you.",
    "Can I see you?",
    "I would like a picture of you.",
    "Show me a photo of yourself.",
)
_LINES = (
    "here I am", "here you are", "one picture, as you asked", "look", "there you go", "I held still for this one",
    "take this one",
)  # fmt: skip
"""What the template says to it; a language model that writes answers in the character's voice."""


@dataclass(frozen=True)
class PictureRequest:
    """What the user says, the plan that answers it, a plain line to answer with, and where it is from."""

    split: Split
    line: str
    plan: str
    reply: str
    origin: str


def picture_requests(
    character: Character, held: HeldOut, seed: int, salt: str = "", most: int | None = None
) -> list[PictureRequest]:
    """Requests for what the pictures show, for new scenes, and for just any picture, ``most`` at most.

    Held-out ones ask for held-out scenes in words of their own, and are a third of all. The same arguments give the
    same list; another ``salt`` asks for other details of the same scenes.
    """
    rng = random.Random(f"{seed} picture requests {salt}")
    own = habits([turn.text for d in held.trained(character) for turn in d.turns if turn.role == "character"])
    decks: dict[Split, list[str]] = {"train": [], "held_out": []}

    def made(split: Split, details: Sequence[str], origin: str) -> PictureRequest:
        if not decks[split]:
            decks[split] = rng.sample(_WORDINGS[split], len(_WORDINGS[split]))
        line = decks[split].pop().format(", ".join(details))
        return PictureRequest(split, line, _plan(character, details), reply(), origin)

    def reply() -> str:
        return voiced(rng.choice(_LINES), own, opened=rng.random() < 1 / 3)

    scenes = scene_details(character, seed)
    requests = []
    for split in ("train", "held_out"):
        for number, details in enumerate(scenes[split]):
            told = [details[kind] for kind in ordered(details)]
            requests.append(made(split, _some(told, rng), f"{split} scene {number:02d}"))
    shown = [picture for picture in character.pictures if picture.caption and picture.name != held.picture]
    for picture in shown:
        if seen := [_askable(phrase) for phrase in phrases(character, picture.caption or "")]:
            requests.append(made("train", _some(seen, rng), f"picture {picture.name} asked for"))
    for line, picture in zip(_ANYHOW, rng.sample(shown, min(len(shown), len(_ANYHOW))), strict=False):
        plan = grammar.short_caption(character, picture.caption or "")
        requests.append(PictureRequest("train", line, plan, reply(), f"picture {picture.name} asked for"))
    return requests if most is None else _fewer(requests, most, rng)


def _fewer(requests: Sequence[PictureRequest], most: int, rng: random.Random) -> list[PictureRequest]:
    """``most`` of the requests in their order: a third of them held out, the others of all kinds alike."""
    of = {split: [r for r in requests if r.split == split] for split in ("train", "held_out")}
    held_out = min(len(of["held_out"]), most // HELD_OUT_OF)
    kept = [*rng.sample(of["train"], min(len(of["train"]), most - held_out)), *of["held_out"][:held_out]]
    return [request for request in requests if request in kept]


def _plan(character: Character, details: Iterable[str]) -> str:
    return grammar.caption_with_name(character, ", ".join(details))


def _some(details: Sequence[str], rng: random.Random) -> list[str]:
    """One to ``MOST_DETAILS`` of the details, in their order."""
    count = rng.randint(1, min(MOST_DETAILS, len(details)))
    return [details[index] for index in sorted(rng.sample(range(len(details)), count))]


def _askable(phrase: Phrase) -> str:
    """A caption's detail as it follows "you": "a happy expression" -> "with a happy expression"."""
    return f"with {phrase.text}" if phrase.kind == "thing" else phrase.text
