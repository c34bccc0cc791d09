"""The template writer: rules only, deterministic, always there. Character -> drafts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence

from charforge import grammar
from charforge.character import Character, Dialogue
from charforge.expand import knowledge, vqa
from charforge.expand.drafts import Draft, introduction, talk
from charforge.expand.holdout import HeldOut
from charforge.expand.pairs import ImagePart, Part, Split, Task, TextPart
from charforge.expand.refusals import refusals
from charforge.expand.requests import picture_requests
from charforge.expand.rewording import rewordings
from charforge.expand.statements import claims, in_full, short_answers
from charforge.expand.strangers import stranger_questions

REWORDINGS = 2
MOST_JOINED = 12
"""Conversations made of two dialogues, so that a history before the question is nothing new."""

_GREETINGS = ("Hello!", "Hi there.")
_OPENS = re.compile(r"^(?:hello|hi|hey|good (?:morning|evening|afternoon))\b", re.IGNORECASE)
_CLOSES = re.compile(r"^(?:good ?night|goodbye|bye|see you|farewell|sleep well)\b", re.IGNORECASE)


def template_drafts(character: Character, held: HeldOut, seed: int, strangers: Mapping[str, str]) -> list[Draft]:
    """Everything that rules can make of a character; the same arguments give the same list.

    ``strangers`` are the base's own pictures of others, for the question whether this is the character.
    """
    own_words = [
        *_roleplay(character, held, seed),
        *_drawings(character, held),
        *_roleplay_pictures(character, held),
    ]
    if not grammar.is_english(character):
        # every other rule words sentences of its own, and they are English
        return own_words
    return [
        *own_words,
        *_requests(character, held, seed),
        *_knowledge(character, seed),
        *_refusals(character, seed),
        *_looks(character, held, seed),
        *_strangers(character, strangers, seed),
    ]


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
        if turn.image is not None and plans and (plan := _plan(character, turn.image)):
            text = grammar.with_plan(text, plan)
        parts.append(TextPart(role="assistant", text=text, loss=learn and position > 0))
    return parts


def _plan(character: Character, image: str) -> str | None:
    """What a plan says of a picture, or None where nobody said what it shows: a plan that claims nothing is none."""
    caption = character.picture(image).caption
    return grammar.short_caption(character, caption) if caption else None


def _talk_task(parts: Sequence[Part]) -> Task:
    """Which kind of conversation: several learned replies, one that plans a picture, or plain."""
    replies = [part for part in parts if isinstance(part, TextPart) and part.role == "assistant"]
    if len(replies) > 1:
        return "roleplay_multi_turn"
    return "roleplay_plan" if grammar.split_plan(replies[0].text)[1] else "roleplay_text"


def _roleplay(character: Character, held: HeldOut, seed: int) -> Iterable[Draft]:
    system = _system(character)
    trained = held.trained(character)
    for index, dialogue in enumerate(character.dialogues):
        split: Split = "held_out" if index in held.dialogues else "train"
        # held-out replies are the character's words alone: a plan's fixed form would flatter the score
        turns = _conversation(character, dialogue, learn=True, plans=split == "train")
        yield Draft(_talk_task(turns), split, dialogue.origin, (system, *turns))
    for dialogue in trained if grammar.is_english(character) else ():
        yield from _reworded(character, dialogue, seed)
    if character.opening and grammar.is_english(character):
        for greeting in _GREETINGS:
            yield Draft("roleplay_text", "train", "opening", talk(system, greeting, character.opening))
    chooser = random.Random(f"{seed} joined")
    short = [d for d in trained if len(d.turns) == 2]
    # nobody says good morning in the middle of a conversation, or goes on after good night
    first = [d for d in short if not _CLOSES.match(d.turns[0].text)]
    last = [d for d in short if not _OPENS.match(d.turns[0].text)]
    for after in chooser.sample(last, min(len(last), MOST_JOINED, max(1, len(short) // 2))):
        others = [d for d in first if d is not after]
        if not others:
            continue
        before = chooser.choice(others)
        history = _conversation(character, before, learn=False, plans=True)
        reply_parts = _conversation(character, after, learn=True, plans=True)
        parts = (system, *history, *reply_parts)
        yield Draft("roleplay_multi_turn", "train", f"{before.origin} + {after.origin}", parts)


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
    for form in rewordings(asked.text, chooser, REWORDINGS):
        other = [*parts[:first], TextPart(role="user", text=form), *parts[first + 1 :]]
        yield Draft(_talk_task(other), "train", f"{dialogue.origin} reworded", (_system(character), *other))


def _requests(character: Character, held: HeldOut, seed: int) -> Iterable[Draft]:
    system = _system(character)
    # they are the least like the character of all that the rules write: not more of them than it has words of its own
    for request in picture_requests(character, held, seed, most=len(character.dialogues)):
        answer = grammar.with_plan(request.reply, request.plan)
        yield Draft("roleplay_request", request.split, request.origin, talk(system, request.line, answer))


def _knowledge(character: Character, seed: int) -> Iterable[Draft]:
    asked = knowledge.questions(character)
    name = character.name
    full = in_full(asked, name)
    for question, answer, origin in [
        *full,
        *short_answers(asked, name),
        *claims(full, random.Random(f"{seed} claims")),
    ]:
        source = knowledge.source_of(character, origin)
        yield Draft("knowledge", "train", origin, talk(introduction(character), question, answer), source=source)


def _refusals(character: Character, seed: int) -> Iterable[Draft]:
    for question, answer in refusals(random.Random(f"{seed} refusals")):
        yield Draft("refusal", "train", "what nobody told it", talk(introduction(character), question, answer))


def _strangers(character: Character, strangers: Mapping[str, str], seed: int) -> Iterable[Draft]:
    for name, question, answer in stranger_questions(character, strangers, random.Random(f"{seed} strangers")):
        look = ImagePart(image=name, use="look")
        asked = TextPart(role="user", text=question), TextPart(role="assistant", text=answer, loss=True)
        yield Draft("vqa", "train", f"picture {name} of the base", (look, *asked))


def _drawings(character: Character, held: HeldOut) -> Iterable[Draft]:
    for picture in character.pictures:
        draw = ImagePart(image=picture.name, use="draw", loss=True)
        caption = grammar.picture_caption(character, picture)
        split: Split = "held_out" if picture.name == held.picture else "train"
        yield Draft("text_to_image", split, f"picture {picture.name}", (TextPart(role=None, text=caption), draw))
        if split == "train":
            for form in _rephrased(character, picture.caption or ""):
                parts = (TextPart(role=None, text=form), draw)
                yield Draft("text_to_image", split, f"picture {picture.name} rephrased", parts)


def _rephrased(character: Character, caption: str) -> list[str]:
    """The caption by name alone and by class, each telling a part of it: prompts are seldom complete."""
    if not grammar.is_english(character):
        return [character.name]
    noun = character.class_noun
    named = f"{grammar.with_article(noun)} named {character.name}" if noun else character.name
    if not caption:
        return list(dict.fromkeys([character.name, named]))
    details = grammar.caption_details(character, grammar.short_caption(character, caption))
    half = (len(details) + 1) // 2
    return [", ".join([character.name, *details[:half]]), ", ".join([named, *details[half:]])]


def _roleplay_pictures(character: Character, held: HeldOut) -> Iterable[Draft]:
    for index, dialogue in enumerate(character.dialogues):
        for turn in dialogue.turns:
            if turn.role != "character" or turn.image is None:
                continue
            split: Split = "held_out" if turn.image == held.picture else "train"
            if split == "train" and index in held.dialogues:
                # its picture is trained on and its words are held out: it belongs on neither side
                continue
            plan = _plan(character, turn.image) or grammar.picture_caption(character, character.picture(turn.image))
            prompt = grammar.picture_prompt(character, plan, turn.text)
            draw = ImagePart(image=turn.image, use="draw", loss=True)
            yield Draft("roleplay_picture", split, dialogue.origin, (TextPart(role=None, text=prompt), draw))


def _looks(character: Character, held: HeldOut, seed: int) -> Iterable[Draft]:
    for name, asked in vqa.questions(character, random.Random(f"{seed} vqa")).items():
        split: Split = "held_out" if name == held.picture else "train"
        look = ImagePart(image=name, use="look")
        for question, answer in asked:
            turns = TextPart(role="user", text=question), TextPart(role="assistant", text=answer, loss=True)
            source = character.picture(name).caption or ""
            yield Draft("vqa", split, f"picture {name}", (look, *turns), source=source)
