"""More ways to be asked for the same fact: its short answer, and claims that are true or mixed up.

One question and one full sentence per fact are learned by heart without being understood: asked in other words, the
fact is not found. Answers stay the user's own words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from charforge.expand.knowledge import Question

_OPEN = re.compile(r"^(?:What|Who|Where|When|How)\b", re.IGNORECASE)
_SAME = {
    "i": "you", "am": "are", "my": "your", "myself": "yourself", "me": "you",
    "has": "have", "does": "do",
}  # fmt: skip
_SECOND = (
    (r"\bI am\b", "you are"), (r"\bI was\b", "you were"), (r"\bI'm\b", "you're"), (r"\bI've\b", "you've"),
    (r"\bI\b", "you"), (r"\b[Mm]y\b", "your"), (r"\b[Mm]yself\b", "yourself"), (r"\bme\b", "you"),
)  # fmt: skip


def short_answers(questions: Sequence[Question]) -> list[Question]:
    """For each open question whose answer repeats it: the question asked for brevity, and what is new in the answer.

    "What are you allergic to?", "I am allergic to feathers." -> "In short, what are you allergic to?", "Feathers."
    """
    made = []
    for question, answer, origin in questions:
        new = said_newly(question, answer)
        if new:
            made.append((f"In short, {question[0].lower()}{question[1:]}", f"{new[0].upper()}{new[1:]}", origin))
    return made


def said_newly(question: str, answer: str) -> str:
    """What an answer says beyond the words of its question, or nothing where it does not begin by repeating them."""
    if not _OPEN.match(question) or not question.endswith("?"):
        return ""
    asked = [_plain(word) for word in question.rstrip("?").split()[1:]]
    words = answer.split()
    repeated = 0
    for word in words:
        if _plain(word) not in asked:
            break
        asked.remove(_plain(word))
        repeated += 1
    rest = " ".join(words[repeated:])
    # a subject and a verb at least: fewer means that the sentence is built otherwise than its question
    return rest if repeated >= 2 and rest and len(rest.split()) <= 14 else ""


def _plain(word: str) -> str:
    word = re.sub(r"[^\w'-]", "", word.lower())
    word = _SAME.get(word, word)
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def claims(questions: Sequence[Question], chooser: random.Random) -> list[Question]:
    """For each fact about "you" that has a short answer a claim that is true, and one that mixes it with another fact.

    A wrong claim is mended by the right sentence: yes and no are equally many, and only knowing the fact tells them
    apart.
    """
    told: dict[str, tuple[str, str, str]] = {}
    for question, answer, origin in questions:
        new = said_newly(question, answer)
        # only where a second answer is surely wrong: it may keep several things, and is both "Bo" and "a dog"
        if new and re.match(r"^(?:I am (?!an?\b)|My\b)", answer) and origin not in ("name", "class"):
            told.setdefault(answer, (_OPEN.match(question)[0].lower(), new, origin))  # type: ignore[index]
    made = []
    for answer, (asking, new, origin) in told.items():
        # of facts that are built alike, so that not every mixed-up claim is absurd
        others = [
            rest
            for said, (kind, rest, _) in told.items()
            if said != answer and kind == asking and _shape(rest) == _shape(new) and _shares_no_word(rest, new)
        ]
        if not others:
            continue
        wrong = answer.removesuffix(new) + chooser.choice(others)
        sentence = answer if answer.startswith("I ") else f"{answer[0].lower()}{answer[1:]}"
        made.append((f"Is it true that {_to_you(answer)}?", f"Yes, {sentence}", origin))
        made.append((f"Is it true that {_to_you(wrong)}?", f"No, {sentence}", origin))
    return made


def _shape(new: str) -> str:
    """How a short answer begins: with an article, a possessive, a preposition, or a bare word."""
    first = new.split()[0].lower()
    kinds = (
        ("a an the", "article"),
        ("my your his her its their", "owner"),
        ("in on at under to with by from", "where"),
    )
    return next((kind for words, kind in kinds if first in words.split()), "bare")


def _shares_no_word(one: str, other: str) -> bool:
    """Whether two short answers are surely not the same or part of each other."""
    long = [{word for word in re.findall(r"\w+", text.lower()) if len(word) > 3} for text in (one, other)]
    return not long[0] & long[1]


def _to_you(sentence: str) -> str:
    """ "My rival is Ann." -> "your rival is Ann"."""
    for pattern, word in _SECOND:
        sentence = re.sub(pattern, word, sentence)
    return sentence.rstrip(".!")
