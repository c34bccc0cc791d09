"""Questions with answers to choose from, and whether an answer says more than what it rests on."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from charforge.words import word_set

OPTIONS = 4
LETTERS = "ABCD"
LONGEST_OPTION = 12
"""Words."""
_EMPTY = word_set("""
    a an the in on at of and with to is are am was were be been wearing holding by near its his her their my your our i
    you he she it they we me him them this that these those there here yes no not has have had do does did for from as
    what who where when how which picture image photo shows shown show seen see visible character one some any very so
    also because into over under up down out just only own am's can will would s't
""")


def with_options(question: str, answer: str, wrong: Sequence[str], seed: str) -> tuple[str, str] | None:
    """The question with lettered options, and the right one: ("What does Bo like?\\nA. tea\\n...", "B. naps").

    None where there are not enough wrong answers that differ from the right one and from each other. Where the right
    answer stands is drawn by ``seed``.
    """
    right = _option(answer)
    others: list[str] = []
    for option in map(_option, wrong):
        if option and option.lower() not in {right.lower(), *(other.lower() for other in others)}:
            others.append(option)
    if len(others) < OPTIONS - 1 or not right or any(len(o.split()) > LONGEST_OPTION for o in [right, *others]):
        return None
    chooser = random.Random(seed)
    options = chooser.sample(others, OPTIONS - 1)
    place = chooser.randrange(OPTIONS)
    options.insert(place, right)
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))
    return f"{question}\n{listed}", f"{LETTERS[place]}. {right}"


def has_options(question: str) -> bool:
    """Whether a question was made by :func:`with_options`."""
    return re.search(r"\nA\. .+\nB\. ", question) is not None


def _option(text: str) -> str:
    """A short answer without its letter and its full stop."""
    return re.sub(r"^\s*[A-D][.):]\s*", "", " ".join(text.split())).rstrip(".")


def new_words(text: str, known: str) -> set[str]:
    """The words of ``text`` with a meaning that do not occur in ``known``, endings and case apart."""
    there = {_stem(word) for word in re.findall(r"[^\W_]+", known.lower())}
    return {word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _EMPTY and _stem(word) not in there}


def _stem(word: str) -> str:
    """Five letters stand for a word: "howls" meets "howling"."""
    return word[:5].rstrip("s") if len(word) > 3 else word
