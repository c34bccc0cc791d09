"""What is kept from training, chosen before anything is written."""

from __future__ import annotations

import random
from dataclasses import dataclass

from charforge import grammar
from charforge.character import Character, Dialogue
from charforge.expand.pairs import PromptKeys, prompt_key, similar

HELD_OUT_SHARE = 0.15
FEWEST_HELD_OUT = 3
PICTURES_TO_HOLD_ONE_OUT = 10


@dataclass(frozen=True)
class HeldOut:
    """The name of one picture, if there are enough, and indices of dialogues."""

    picture: str | None
    dialogues: frozenset[int]

    def trained(self, character: Character) -> list[Dialogue]:
        """The dialogues that are not held out."""
        return [dialogue for index, dialogue in enumerate(character.dialogues) if index not in self.dialogues]


def hold_out(character: Character, seed: int) -> HeldOut:
    """The same character and seed give the same choice."""
    picture = _picture(character, seed)
    return HeldOut(picture, frozenset(_dialogues(character, picture, seed)))


def _picture(character: Character, seed: int) -> str | None:
    """One of ten or more pictures, captioned unlike any other and used by few dialogues."""
    if len(character.pictures) < PICTURES_TO_HOLD_ONE_OUT:
        return None
    keys = {p.name: prompt_key(grammar.picture_caption(character, p), character.name) for p in character.pictures}
    uses = {
        p.name: sum(turn.image == p.name for d in character.dialogues for turn in d.turns) for p in character.pictures
    }
    unlike = [
        name for name, key in keys.items() if not any(similar(key, other) for o, other in keys.items() if o != name)
    ]
    if not unlike:
        return None
    fewest = min(uses[name] for name in unlike)
    return random.Random(f"{seed} picture").choice([name for name in unlike if uses[name] == fewest])


def _dialogues(character: Character, picture: str | None, seed: int) -> set[int]:
    """Indices of the held-out dialogues; those that ask the same as a held-out one go with it."""
    dialogues = character.dialogues
    keys = [[prompt_key(t.text, character.name) for t in d.turns if t.role == "user"] for d in dialogues]
    asked = [(key, index) for index, mine in enumerate(keys) for key in mine]
    known = PromptKeys([key for key, _ in asked])

    def with_kin(index: int) -> set[int]:
        group, fresh = {index}, [index]
        while fresh:
            kin = {asked[number][1] for key in keys[fresh.pop()] for number in known.like(key)}
            fresh += [other for other in kin if other not in group]
            group.update(kin)
        return group

    # half at most: what is left must still teach the voice
    wanted = min(max(FEWEST_HELD_OUT, round(HELD_OUT_SHARE * len(dialogues))), len(dialogues) // 2)
    held: set[int] = set()
    for index, dialogue in enumerate(dialogues):
        if picture is not None and any(turn.image == picture for turn in dialogue.turns):
            held |= with_kin(index)
    order = list(range(len(dialogues)))
    random.Random(f"{seed} dialogues").shuffle(order)
    for index in order:
        if len(held) >= wanted:
            break
        group = with_kin(index)
        if len(held | group) <= max(wanted + 2, len(held) + 1) and len(held | group) < len(dialogues):
            held |= group
    return held
