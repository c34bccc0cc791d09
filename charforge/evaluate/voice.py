"""Does it sound like the character? Measures of replies, without a judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from charforge.expand.manners import ill_mannered

CHRF_ORDER, CHRF_BETA = 6, 2.0
"""As Popovic proposed them, and as sacrebleu has them."""
DISTANCE_ORDER = 3
"""Letters in a row: long enough for endings and small words, short enough that a page of dialogue holds them."""


def letter_runs(text: str, order: int, spaces: bool = True) -> Counter[str]:
    """The runs of ``order`` characters of a text with their counts; runs of white space count as one space."""
    text = " ".join(text.split())
    text = text if spaces else text.replace(" ", "")
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


def perplexity(rows: np.ndarray) -> float:
    """Of (cross-entropy summed over a reply, its tokens) rows: the exponential of the mean cross-entropy per token.

    - Range: 1 and up, lower is better: so many words the model wavers between at each place of what the character
      really said.
    - Source: the usual measure of a language model; here on replies that no training step has seen.
    - Caveat: only numbers of one base and one tokenizer can be compared. It says how well the model would have
      foreseen the replies, not how well it speaks by itself.
    """
    return float(np.exp(rows[:, 0].sum() / rows[:, 1].sum()))


def chrf(reply: str, reference: str) -> float:
    """How much of the reference's letters in a row, one to six, the reply has, and the other way round.

    - Range: 0 to 1, higher is closer (sacrebleu prints 100 times this).
    - Source: chrF2 (Popovic 2015), as sacrebleu computes it for a sentence.
    - Caveat: made for translations. A good reply to an open question shares little with the one that was written:
      .15 to .3 is usual, and only differences over many replies say something.
    """
    precisions, recalls = [], []
    for order in range(1, CHRF_ORDER + 1):
        said, written = (letter_runs(text, order, spaces=False) for text in (reply, reference))
        if said and written:
            both = (said & written).total()
            precisions.append(both / said.total())
            recalls.append(both / written.total())
    if not precisions or not sum(recalls):
        return 0.0
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    return (1 + CHRF_BETA**2) * precision * recall / (CHRF_BETA**2 * precision + recall)


def sameness(replies: Sequence[str]) -> np.ndarray:
    """How much each reply is like the one of the others that it is most like, by :func:`chrf`; (replies,).

    - Range: 0 to 1, lower is better: at 1 it says the same whatever it is asked.
    - Source: self-BLEU (Zhu et al. 2018), with chrF in its place.
    - Caveat: a voice with a standing phrase is a little alike everywhere, and should be. Needs two replies.
    """
    if len(replies) < 2:
        raise ValueError("one reply has no other to be like")
    return np.array([max(chrf(r, o) for j, o in enumerate(replies) if j != i) for i, r in enumerate(replies)])


def voice_distance(reply: str, own: Sequence[str]) -> float:
    """How far the letters of a reply are from those of the character's own lines.

    - Range: 0 (the same runs of three characters equally often) to 1 (none in common); lower is closer.
    - Source: character n-gram profiles (Keselj et al. 2003), which tell authors apart, with the Jensen-Shannon distance
      in place of theirs because it has a range.
    - Caveat: one reply has few of all the runs that a page has, so that even the character's own held-out lines are at
      .85 to .95: read it beside theirs. The shorter the reply, the farther. It sees topics too, not manner alone.
    """
    said, known = letter_runs(reply, DISTANCE_ORDER), _runs_of(tuple(own))
    if not said or not known:
        return 1.0
    squared = 0.0
    for runs, others in ((said, known), (known, said)):
        for run, count in runs.items():
            p, q = count / runs.total(), others[run] / others.total()
            squared += p * np.log2(2 * p / (p + q)) / 2
    return float(max(squared, 0.0) ** 0.5)


@cache
def _runs_of(lines: tuple[str, ...]) -> Counter[str]:
    return sum((letter_runs(line, DISTANCE_ORDER) for line in lines), Counter())


def distinct(reply: str, order: int = 2) -> float:
    """The share of a reply's runs of ``order`` words that are different from each other.

    - Range: 0 to 1, higher is better: below about .8 it goes round in circles. 1 for a reply too short for any.
    - Source: distinct-n (Li et al. 2016) within each reply.
    - Caveat: random words are perfectly distinct; short replies nearly always are.
    """
    words = re.findall(r"\w+(?:['’]\w+)*", reply.lower())
    runs = list(zip(*(words[start:] for start in range(order)), strict=False))
    return len(set(runs)) / len(runs) if runs else 1.0


_OTHERS_TURN = re.compile(
    r"^[^\S\n]*(?:\{\{user\}\}|user|you|human|visitor|me)\s*:|<\|[^|]*\||\bim_start\b", re.IGNORECASE | re.MULTILINE
)
_OTHERS_ACTS = re.compile(
    r"\*\s*(?:\{\{user\}\}|you)\s+(?!(?:can|could|may|might|must|should|will|would|have|are|were)\b)[a-z]+"
    r"|\byou (?:say|reply|answer|nod|smile|sigh|laugh|whisper|ask)(?:s|ed)?\s*[,:]?\s*[\"“]",
    re.IGNORECASE,
)


def speaks_for_user(reply: str, user: str = "") -> bool:
    """Whether a reply also says or does what only the user can: "User: Hello!", "*you nod slowly*", 'you say, "No."'.

    ``user``: what the user is called, where it has a name.

    - Range of its mean: 0 to 1, lower is better.
    - Source: the commonest complaint about role-play models; found by patterns, English and chat marks only.
    - Caveat: it misses what is told indirectly ("and then the two of us go home"). A user called "Me" is not its own
      pattern.
    """
    named = re.search(rf"^[^\S\n]*{re.escape(user)}\s*:", reply, re.IGNORECASE | re.MULTILINE) if user else None
    return bool(named or _OTHERS_TURN.search(reply) or _OTHERS_ACTS.search(reply))


_OUT_OF_CHARACTER = ("a refusal", "an assistant's manners", "talk about the task", "a placeholder")


def wordless(reply: str) -> bool:
    """Whether a reply, without the plan of its picture, has no word in it.

    - Range of its mean: 0 to 1, lower is better: a picture alone is no answer to a question.
    - Source: charforge; a base that learned the plans before the words answers so.
    - Caveat: a character that is silent on purpose ("...") is wordless too.
    """
    return re.search(r"\w", reply) is None


def breaks_character(reply: str, own: str = "", name: str = "") -> bool:
    """Whether a reply talks like an assistant or about the task: "As an AI, I cannot ...", "How can I help you today?";
    or says its own prompt to the user: "You are Wren, a voxel person.".

    ``own``: everything that the character's files say, in lower case; what stands there is its manner and no break.
    ``name``: the character's.

    - Range of its mean: 0 to 1, lower is better.
    - Source: the patterns by which charforge refuses such lines as training data (charforge/expand/manners.py).
    - Caveat: patterns, English only. A character that breaks in other words is not found. One that says nothing breaks
      nothing (:func:`wordless`).
    """
    recited = bool(name) and re.search(rf"\byou are {re.escape(name)}(?![\w'’])", reply, re.IGNORECASE) is not None
    return not wordless(reply) and (recited or ill_mannered(reply, own) in _OUT_OF_CHARACTER)
