"""More ways to be asked for the same fact: its short answer, and claims that are true or false.

One question and one full sentence per fact are learned by heart without being understood: asked in other words, the
fact is not found. Answers stay the user's own words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from charforge.expand.knowledge import Question
from charforge.expand.persons import to_you

LONGEST_SHORT = 14
"""Words of a short answer."""
_OPEN = re.compile(r"^(?:What|Who|Where|When|How)\b", re.IGNORECASE)
_WHATEVER = re.compile(r"^What (?:else |more )?(?:do|can|should) (?:you|I) (?:know|tell|say)\b", re.IGNORECASE)
"""Questions that name only the subject: what is new in their answers is a predicate, which needs its subject."""
_PREDICATE = re.compile(
    r"(?:is|are|am|was|were|be|has|have|had|do|does|did|can|could|will|would|may|might|must|should|\w+n['’]t)\b", re.I
)
_NO_PHRASE = re.compile(
    # "Children how to read rocks.", "The balalaika badly.": the verb that holds it together is gone
    r"\b(?:how|because|while|if|until|although|though|since)\b|(?<!^)\b(?:well|badly|fast|hard|often|too"
    r"|(?!family|fly|butterfly|jelly|lily|bully|belly|Italy|July|ally|holly|assembly)\w{3,}ly)[.!]?$"
)
_SAME = {
    "i": "you", "am": "are", "my": "your", "myself": "yourself", "me": "you",
    "has": "have", "does": "do",
}  # fmt: skip
_NOT_IN_SHORT = ("name", "class")
"""Who it is, is asked for in enough ways."""


def short_answers(questions: Sequence[Question], name: str) -> list[Question]:
    """For each open question whose answer repeats it: the question asked for brevity, and what is new in the answer.

    "What are you allergic to?", "I am allergic to feathers." -> "In a few words: what are you allergic to?",
    "Feathers.". A question about ``name`` is answered in short only: nobody says "I" who is asked about Wren.
    """
    made = []
    for question, answer, origin in questions:
        new = said_newly(question, answer, name)
        if not new or origin in _NOT_IN_SHORT:
            continue
        told = f"{new[0].upper()}{new[1:]}"
        if _about(question, name):
            made.append((question, told, origin))
        else:
            made.append((f"In a few words: {question[0].lower()}{question[1:]}", told, origin))
    return made


def in_full(questions: Sequence[Question], name: str) -> list[Question]:
    """The questions that are answered by their whole sentence: those that say "you", and those about others."""
    return [
        q for q in questions if q[2] in _NOT_IN_SHORT or not _about(q[0], name) or not q[1].startswith(("I ", "My "))
    ]


def _about(question: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", question) is not None


def said_newly(question: str, answer: str, name: str = "") -> str:
    """What an answer says beyond the words of its question, or nothing where it does not begin by repeating them."""
    if not _OPEN.match(question) or not question.endswith("?") or _WHATEVER.match(question):
        return ""
    # asked about Wren or about you, the character answers the same
    question = re.sub(rf"(?<!\w){re.escape(name)}'s(?!\w)", "your", question) if name else question
    question = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "you", question) if name else question
    asked = [_plain(word) for word in question.rstrip("?").split()[1:]]
    asked += ["are"] if "is" in asked else []
    words = answer.split()
    repeated = 0
    for word in words:
        if _plain(word) not in asked:
            break
        asked.remove(_plain(word))
        repeated += 1
    rest = re.sub(r"^(?:called|named)\s+", "", " ".join(words[repeated:]))
    # a subject and a verb at least: fewer means that the sentence is built otherwise than its question
    # "I love macaroni and am afraid of silence": the second verb has lost its subject
    if re.search(r"\b(?:and|but|or|yet) (?:am|have|do|was)\b", rest):
        return ""
    if _PREDICATE.match(rest) or _NO_PHRASE.search(rest):
        return ""
    # "What have you never done?": without its "never" the answer would say the opposite
    return rest if "never" not in answer and repeated >= 2 and rest and len(rest.split()) <= LONGEST_SHORT else ""


def _plain(word: str) -> str:
    word = re.sub(r"[^\w'-]", "", word.lower())
    word = _SAME.get(word, word)
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def claims(questions: Sequence[Question], chooser: random.Random) -> list[Question]:
    """For some facts about "you" a claim that is true, and one that mixes it with another fact of the same kind.

    A wrong claim is mended by the right sentence: yes and no are equally many, and only knowing the fact tells them
    apart. Facts are of one kind where their subjects end in the same word ("my greatest invention", "my worst
    invention") or both tell a state ("I am afraid of", "I am allergic to"): a wrong claim that is absurd teaches
    nothing.
    """
    told: dict[str, tuple[str, str, str]] = {}
    for question, answer, origin in questions:
        new, kind = said_newly(question, answer), _kind(answer)
        # only where a second answer is surely wrong: it may keep several things, and is both "Bo" and "a dog"
        if new and kind and origin not in _NOT_IN_SHORT:
            told.setdefault(answer, (kind, new, origin))
    made = []
    for answer, (kind, new, origin) in told.items():
        others = [
            rest
            for said, (other, rest, _) in told.items()
            if said != answer and other == kind and _shape(rest) == _shape(new) and _shares_no_word(rest, new)
        ]
        if not others:
            continue
        wrong = answer.removesuffix(new) + chooser.choice(others)
        sentence = answer if answer.startswith("I ") else f"{answer[0].lower()}{answer[1:]}"
        made.append((f"Is it true that {to_you(answer)}?", f"Yes, {sentence}", origin))
        made.append((f"Is it true that {to_you(wrong)}?", f"No, {sentence}", origin))
    return made


def _kind(answer: str) -> str:
    """What an answer is about, so that two answers of one kind can be mixed up; empty where it is of no kind."""
    if re.match(r"^I am (?:\w+ )?\w+ (?:of|to|at|for)\b", answer):
        return "state"
    subject = re.match(r"^My (?:[\w-]+ )+?([\w-]+) (?:is|are)\b", answer)
    return subject[1] if subject else ""


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
