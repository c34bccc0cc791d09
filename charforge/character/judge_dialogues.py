"""Dialogues judged before training: enough of them, one voice, nobody speaking out of character."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections import Counter
from dataclasses import dataclass

from charforge.character.character import Character
from charforge.errors import Problem
from charforge.words import word_set

GOOD_NUMBER = 30
FEWEST = 10
SHORT_REPLY = 3
_NOT_ITSELF = re.compile(
    r"\bas an? (?:ai|assistant|language model)\b|\blanguage model\b|^[^\S\n]*(?:user|assistant|human)\s*:", re.I | re.M
)
# the words that English cannot do without: they say nothing about a voice
_PLAIN = word_set("""
    a about after again all also always am an and any anything are around as at away back be because been before
    being but by came can cannot come could day did do does done down each else enough even ever every
    everything few find first for from gave get give go goes going gone good got great had has have he her here
    him himself his how i if in into is it its itself just keep knew know last less let like little long look
    looks made make makes many may maybe me mean might mine more most much must my myself need never new next no
    not nothing now of off often oh old on once one only onto or other our out over own people perhaps place put
    quite rather really right said same saw say says see she should since so some somebody something sometimes
    soon still such take tell than thank that the their them then there these they thing things think this those
    though time to today too took two under until up upon us very want was way we well went were what when where
    which while who whole why will with without would yes yet you your yours yourself don't i'm it's i've isn't
    can't you're that's there's doesn't didn't won't let's he's she's they're we're i'll you'll
""")


@dataclass(frozen=True)
class DialogueJudgement:
    """Figures of all dialogues together. ``voice_words``: what the character says more than its visitors do."""

    dialogues: int
    replies: int
    words_per_reply: float
    short_replies: float
    repeated_replies: int
    voice_words: tuple[str, ...]


def judge_dialogues(character: Character) -> tuple[DialogueJudgement, list[Problem]]:
    """Figures, and warnings with what would mend them."""
    replies = [(d.origin, t.text) for d in character.dialogues for t in d.turns if t.role == "character"]
    questions = [turn.text for d in character.dialogues for turn in d.turns if turn.role == "user"]
    lengths = [len(text.split()) for _, text in replies] or [0]
    counts = Counter(text.casefold() for _, text in replies)
    repeated = sum(count - 1 for count in counts.values())
    short = sum(length <= SHORT_REPLY for length in lengths) / len(lengths)
    judged = DialogueJudgement(
        len(character.dialogues),
        len(replies),
        round(statistics.mean(lengths), 1),
        round(short, 3),
        repeated,
        tuple(voice_words([text for _, text in replies], questions)),
    )
    problems: list[Problem] = []

    def warn(file: str, problem: str, remedy: str) -> None:
        problems.append(Problem(file, "warning", problem, remedy))

    if 0 < len(character.dialogues) < FEWEST:
        warn(
            "dialogues",
            f"there are only {len(character.dialogues)}",
            f"write about {GOOD_NUMBER}",
        )
    if short > 0.5:
        warn("dialogues", f"{short:.0%} of the replies have {SHORT_REPLY} words or fewer", "let it speak in sentences")
    asked = statistics.mean([len(text.split()) for text in questions] or [0])
    if replies and asked > 3 * statistics.mean(lengths):
        warn(
            "dialogues",
            "the visitors say three times as much as the character",
            "only replies are learned",
        )
    if repeated > len(replies) // 5:
        warn(
            "dialogues",
            f"{repeated} replies are said more than once",
            "replace them",
        )
    for origin, text in replies:
        if _NOT_ITSELF.search(text):
            warn(origin, "is out of character", "rewrite it as the character would say it")
    if len(replies) >= FEWEST and not judged.voice_words:
        warn("dialogues", "no words stand out: it speaks like anybody", "give it sayings and favourite words")
    return judged, problems


def voice_words(replies: list[str], questions: list[str], most: int = 8) -> list[str]:
    """Words and pairs of words in at least three replies, by how much more often the character says them.

    Ranked by the log of the ratio of smoothed frequencies, times the number of replies that hold the word.
    """
    held = Counter(term for text in replies for term in set(_terms(text)))
    heard = Counter(term for text in questions for term in set(_terms(text)))
    scores = {}
    for term, count in held.items():
        ratio = (count + 0.5) / (len(replies) + 1) / ((heard[term] + 0.5) / (len(questions) + 1))
        if count >= 3 and ratio > 2:
            scores[term] = math.log(ratio) * count
    ranked = sorted(scores, key=lambda term: (-scores[term], term))
    chosen: list[str] = []
    said: set[str] = set()
    for term in ranked:
        # "left spanner" says "spanner" too
        if term not in said:
            chosen.append(term)
        if len(chosen) == most:
            break
        said.update(term.split())
    return chosen


def _terms(text: str) -> list[str]:
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower().replace("’", "'"))
    singles = [word for word in words if word not in _PLAIN and len(word) > 2]
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words) if a not in _PLAIN and b not in _PLAIN]
    return [*singles, *pairs]
