"""What the character knows about others: asked about them, answered by the user's own sentences, never in the first
person. And what was left over: every sentence of the user is used in a question, or listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from charforge import grammar
from charforge.character import Character
from charforge.character.character import Lore
from charforge.character.ledger import Entry, passed_over
from charforge.character.profile import sentences
from charforge.expand.persons import by_whole_name, first_person
from charforge.full_stops import ended

LONGEST_ANSWER = 30
"""Words. Longer answers are learned worse than the sentences they are made of."""
_FORMS = (
    "Tell me about {}.",
    "What do you know about {}?",
    "What else do you know about {}?",
    "What more can you tell me about {}?",
)


def about_others(character: Character, ask: Callable[[str, str, str], bool]) -> None:
    """Ask about every subject as often as there are forms; sentences share an answer while it stays short."""
    for subject, known in _by_subject(character.lore).items():
        forms = iter(_FORMS)
        for answer in _answers(known):
            # a question that was asked already has another answer: take the next form
            for form in forms:
                if ask(form.format(subject), answer.text, f"lore:{answer.numbers[0]}"):
                    break


def _by_subject(lore: Sequence[Lore]) -> dict[str, list[tuple[int, Lore]]]:
    grouped: dict[str, list[tuple[int, Lore]]] = {}
    for number, item in enumerate(lore, start=1):
        grouped.setdefault(item.subject, []).append((number, item))
    return grouped


@dataclass(frozen=True)
class _Answer:
    """Sentences in one answer, and their numbers in the character's lore, from 1."""

    text: str
    numbers: tuple[int, ...]


def _answers(known: Sequence[tuple[int, Lore]]) -> list[_Answer]:
    """Sentences one after the other, as many in an answer as fit."""
    answers: list[_Answer] = []
    for number, item in known:
        words = len(item.text.split())
        if words > LONGEST_ANSWER:
            continue
        if answers and len(answers[-1].text.split()) + words <= LONGEST_ANSWER:
            last = answers.pop()
            answers.append(_Answer(f"{last.text} {ended(item.text)}", (*last.numbers, number)))
        else:
            answers.append(_Answer(ended(item.text), (number,)))
    return answers


def lore_source(character: Character, origin: str) -> str:
    """The sentence at which an answer about others begins."""
    return character.lore[int(origin.removeprefix("lore:")) - 1].text


def unused_sentences(character: Character, answers: Sequence[str]) -> list[Entry]:
    """Sentences of the user that no answer and no prompt says, each with the reason."""
    said = "\n".join([*answers, grammar.system_prompt(character)])
    left: list[Entry] = []

    def leave(file: str, place: str, text: str, reason: str, remedy: str) -> None:
        left.append(passed_over(file, place, "sentence", text, reason, remedy))

    whole = set(answers)
    grouped = [answer for known in _by_subject(character.lore).values() for answer in _answers(known)]
    used = {number for answer in grouped if answer.text in whole for number in answer.numbers}
    for number, item in enumerate(character.lore, start=1):
        if number not in used:
            file, _, place = item.place.rpartition(":")
            if len(item.text.split()) > LONGEST_ANSWER:
                leave(file, place, item.text, f"is longer than {LONGEST_ANSWER} words", "cut it into shorter sentences")
            else:
                leave(file, place, item.text, f"{item.subject} is asked about often enough", "")
    for number, fact in enumerate(character.facts, start=1):
        if not _is_said(fact, character.name, said):
            leave("facts", str(number), fact, "no rule makes a question of it", "begin it with the character's name")
    for part, prose in (
        ("persona", character.persona), ("voice", character.voice), ("appearance", character.appearance),
    ):  # fmt: skip
        for sentence in sentences(prose):
            if not _is_said(sentence, character.name, said):
                remedy = "write it into facts.md, beginning with the character's name"
                leave(part, "", sentence, "no rule makes a question of it, and the prompt has no room for it", remedy)
    return left


def _is_said(sentence: str, name: str, said: str) -> bool:
    """Whether a sentence stands in what is said: as it is, by name, in the first person, or as a key with its value."""
    key, colon, value = sentence.partition(": ")
    value = value.rstrip(".")
    # "tea, rain" is said as "tea and rain"
    if colon and len(key.split()) <= 3 and (value in said or " and ".join(value.rsplit(", ", 1)) in said):
        return True
    bare = sentence.rstrip(".")
    pronoun, _, rest = bare.partition(" ")
    forms = [bare, first_person(by_whole_name(sentence, name), name) or ""]
    if pronoun in ("He", "She", "His", "Her"):
        owner = name if pronoun in ("He", "She") else f"{name}'s"
        forms += [f"{owner} {rest}", first_person(f"{owner} {rest}", name) or ""]
    # an answer with yes or no begins in lower case
    return any(form and (form in said or form[0].lower() + form[1:] in said) for form in forms)
