"""The template writer: rules only, deterministic, always there. Character -> pairs, held-out ones split
off first.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from charforge import grammar
from charforge.character import Character, Dialogue
from charforge.expand import knowledge, vqa
from charforge.expand.pairs import (
    ImagePart,
    Pair,
    Part,
    Split,
    Task,
    TextPart,
    leaked,
    prompt_key,
    similar,
)
from charforge.expand.rewording import rewordings

HELD_OUT_SHARE = 0.15
FEWEST_HELD_OUT = 3
PICTURES_TO_HOLD_ONE_OUT = 10
REWORDINGS = 2
MOST_JOINED = 12
"""Conversations made of two dialogues, so that a history before the question is nothing new."""

_GREETINGS = ("Hello!", "Hi there.", "Good to meet you.")


def expand(character: Character, seed: int = 0) -> list[Pair]:
    """Hundreds of training pairs from one character; the same character and seed give the same list.

    Dialogues and one picture are held out first, together with everything that asks the same. No training
    pair
    repeats a held-out prompt or shows the held-out picture.
    """
    picture = _held_out_picture(character, seed)
    held = _held_out_dialogues(character, picture, seed)
    drafts = [
        *_roleplay(character, held, seed),
        *_knowledge(character),
        *_drawings(character, picture),
        *_roleplay_pictures(character, held, picture),
        *_looks(character, picture, seed),
    ]
    pairs = _numbered(_unique(drafts))
    leaks = {pair.id for pair in leaked(pairs, character.name)}
    return [pair for pair in pairs if pair.id not in leaks]


Draft = tuple[Task, Split, str, tuple[Part, ...]]


def _held_out_picture(character: Character, seed: int) -> str | None:
    """The picture kept from training: one of ten or more, captioned unlike any other, used by few
    dialogues.
    """
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


def _held_out_dialogues(character: Character, picture: str | None, seed: int) -> set[int]:
    """Indices of the held-out dialogues; those that ask the same as a held-out one go with it."""
    dialogues = character.dialogues
    keys = [[prompt_key(t.text, character.name) for t in d.turns if t.role == "user"] for d in dialogues]

    def with_kin(index: int) -> set[int]:
        group, fresh = {index}, [index]
        while fresh:
            mine = keys[fresh.pop()]
            kin = [o for o, theirs in enumerate(keys) if any(similar(a, b) for a in mine for b in theirs)]
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
        group = with_kin(index)
        if (
            len(held) < wanted
            and len(held | group) <= max(wanted + 2, len(held) + 1)
            and len(held | group) < len(dialogues)
        ):
            held |= group
    return held


def _system(character: Character) -> TextPart:
    return TextPart(role="system", text=grammar.system_prompt(character))


def _conversation(character: Character, dialogue: Dialogue, learn: bool, plans: bool) -> list[Part]:
    """The turns of one dialogue.

    ``learn`` puts loss on the character's replies to the user (never on a first line that nobody asked for);
    ``plans`` appends the plan line to replies that came with a picture.
    """
    parts: list[Part] = []
    for position, turn in enumerate(dialogue.turns):
        if turn.role == "user":
            parts.append(TextPart(role="user", text=turn.text))
            continue
        text = turn.text
        if turn.image is not None and plans:
            text = grammar.with_plan(text, _plan(character, turn.image))
        parts.append(TextPart(role="assistant", text=text, loss=learn and position > 0))
    return parts


def _plan(character: Character, image: str) -> str:
    picture = character.picture(image)
    if picture.caption is None:
        return grammar.picture_caption(character, picture)
    return grammar.short_caption(character, picture.caption)


def _roleplay(character: Character, held: set[int], seed: int) -> Iterable[Draft]:
    system = _system(character)
    trained = [d for index, d in enumerate(character.dialogues) if index not in held]
    for index, dialogue in enumerate(character.dialogues):
        split: Split = "held_out" if index in held else "train"
        # held-out replies are the character's words alone: a plan's fixed form would flatter the score
        turns = _conversation(character, dialogue, learn=True, plans=split == "train")
        yield "roleplay_text", split, dialogue.origin, (system, *turns)
    for dialogue in trained:
        yield from _reworded(character, dialogue, seed)
    if character.opening:
        for greeting in _GREETINGS:
            reply = TextPart(role="assistant", text=character.opening, loss=True)
            yield "roleplay_text", "train", "opening", (system, TextPart(role="user", text=greeting), reply)
    chooser = random.Random(f"{seed} joined")
    short = [d for d in trained if len(d.turns) == 2]
    for after in chooser.sample(short, min(len(short), MOST_JOINED, max(1, len(short) // 2))):
        before = chooser.choice([d for d in short if d is not after] or [after])
        if before is after:
            continue
        history = _conversation(character, before, learn=False, plans=True)
        reply_parts = _conversation(character, after, learn=True, plans=True)
        yield "roleplay_text", "train", f"{before.origin} + {after.origin}", (system, *history, *reply_parts)


def _reworded(character: Character, dialogue: Dialogue, seed: int) -> Iterable[Draft]:
    """The same dialogue with its first question worded otherwise; the replies stay to the letter."""
    parts = _conversation(character, dialogue, learn=True, plans=True)
    first = next((i for i, part in enumerate(parts) if isinstance(part, TextPart) and part.role == "user"), None)
    if first is None:
        return
    asked = parts[first]
    assert isinstance(asked, TextPart)
    # the dialogue's own place seeds the choice: adding a dialogue does not reword the others anew
    chooser = random.Random(f"{seed} {dialogue.origin} {asked.text}")
    for form in rewordings(asked.text, character.name, chooser, REWORDINGS):
        other = [*parts[:first], TextPart(role="user", text=form), *parts[first + 1 :]]
        yield "roleplay_text", "train", f"{dialogue.origin} reworded", (_system(character), *other)


def _knowledge(character: Character) -> Iterable[Draft]:
    system = _system(character)
    for question, answer, origin in knowledge.questions(character):
        parts = (
            system,
            TextPart(role="user", text=question),
            TextPart(role="assistant", text=answer, loss=True),
        )
        yield "knowledge", "train", origin, parts


def _drawings(character: Character, held_out: str | None) -> Iterable[Draft]:
    for picture in character.pictures:
        draw = ImagePart(image=picture.name, use="draw", loss=True)
        caption = grammar.picture_caption(character, picture)
        split: Split = "held_out" if picture.name == held_out else "train"
        yield "text_to_image", split, f"picture {picture.name}", (TextPart(role=None, text=caption), draw)
        if split == "train":
            for form in _rephrased(character, picture.caption or ""):
                yield (
                    "text_to_image",
                    split,
                    f"picture {picture.name} rephrased",
                    (TextPart(role=None, text=form), draw),
                )


def _rephrased(character: Character, caption: str) -> list[str]:
    """The caption by name alone, and with class and details in another order."""
    lead = grammar.who(character)
    if not caption:
        return [lead, f"{grammar.with_article(character.class_noun)} named {character.name}"]
    details = grammar.caption_details(character, grammar.short_caption(character, caption))
    named = grammar.with_article(character.class_noun) + f" named {character.name}"
    if not details:
        return [character.name, named]
    turned = [*details[1:], details[0]] if len(details) > 1 else details
    return [", ".join([character.name, *details]), ", ".join([named, *turned])]


def _roleplay_pictures(character: Character, held: set[int], held_out: str | None) -> Iterable[Draft]:
    for index, dialogue in enumerate(character.dialogues):
        for turn in dialogue.turns:
            if turn.role != "character" or turn.image is None:
                continue
            split: Split = "held_out" if turn.image == held_out else "train"
            if split == "train" and index in held:
                # its picture is trained on and its words are held out: it belongs on neither side
                continue
            prompt = grammar.picture_prompt(character, _plan(character, turn.image), turn.text)
            draw = ImagePart(image=turn.image, use="draw", loss=True)
            yield "roleplay_picture", split, dialogue.origin, (TextPart(role=None, text=prompt), draw)


def _looks(character: Character, held_out: str | None, seed: int) -> Iterable[Draft]:
    for name, asked in vqa.questions(character, random.Random(f"{seed} vqa")).items():
        split: Split = "held_out" if name == held_out else "train"
        look = ImagePart(image=name, use="look")
        for question, answer in asked:
            parts = (
                look,
                TextPart(role="user", text=question),
                TextPart(role="assistant", text=answer, loss=True),
            )
            yield "vqa", split, f"picture {name}", parts


def _unique(drafts: Iterable[Draft]) -> Iterable[Draft]:
    """Each pair once; a talk prompt that a dialogue already answers is not answered again by a rule."""
    seen: set[tuple[Part, ...]] = set()
    answered: set[str] = set()
    for task, split, origin, parts in drafts:
        if parts in seen:
            continue
        if task == "knowledge":
            question = parts[1].text if isinstance(parts[1], TextPart) else ""
            if question.lower() in answered:
                continue
        elif task == "roleplay_text":
            answered.update(part.text.lower() for part in parts if isinstance(part, TextPart) and part.role == "user")
        seen.add(parts)
        yield task, split, origin, parts


def _numbered(drafts: Iterable[Draft]) -> list[Pair]:
    counts: dict[str, int] = {}
    pairs: list[Pair] = []
    for task, split, origin, parts in drafts:
        counts[task] = counts.get(task, 0) + 1
        pairs.append(Pair(id=f"{task}-{counts[task]:04d}", task=task, split=split, origin=origin, parts=parts))
    return pairs
