"""What is not fit to be learned, and why. Nothing disappears without a reason that can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from charforge import grammar
from charforge.character import Character
from charforge.character.profile import sentences
from charforge.expand.manners import echoes, ill_mannered
from charforge.expand.near_sets import NearSets
from charforge.expand.pairs import Pair, TextPart, leaked, prompt_key
from charforge.expand.similar import SIMILAR, grams, overlap
from charforge.kinds import TALK
from charforge.words import word_set

NEARLY_THE_SAME = 0.9
"""The same for the figure of what is left at the end."""
LONGEST_REPLY, LONGEST_QUESTION = 120, 40
"""Words. Longer authored texts ramble, whoever wrote them."""
FEWEST_LETTERS = 6
"""Letters of a reply: a single word teaches no voice."""
CONTAINED = 0.85
"""Share of the runs of a known text from which a longer text holds it."""
LONG_SENTENCE = 5
"""Words of a sentence that nobody says by chance."""
_SPOKEN = (*TALK, "roleplay_request", "refusal")

_COMMON_CAPITALS = word_set("""
    A An And Are As At But By Can Come Could Did Do Does For From Good Has Have He Her Hers Here His How I If In Is It
    Its Let Look Make May Maybe Me More Most My Never No Not Nothing Now Of Off Oh Ok Okay On Once One Only Or Our Over
    She Should So Some Sometimes Something Sure Take Tell Thank Thanks That The Their Then There These They This Those
    To Today Tomorrow Tonight Too Under Until Up Very Wait Was We Well Were What When Where Which While Who Why Will
    With Without Would Yes Yesterday Yet You Your
    Actually Afterwards Again Ah Aha Alas Also Always Anyway Besides Certainly Clearly Dear Finally First Friend Hello
    Hey Hi Honestly However Indeed Instead Last Lately Later Listen Meanwhile Moreover Next Often Otherwise Perhaps
    Please Rather Right Second Sir Soon Sorry Still Suddenly Therefore Third Thus True Truly Unfortunately Usually
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April June July August September
    October November December English Christmas
""")


@dataclass(frozen=True)
class Dropped:
    """A pair that was not kept. ``reason`` is a short fixed phrase, so that reasons can be counted."""

    pair: Pair
    reason: str


class _HasReason(Protocol):
    @property
    def reason(self) -> str: ...


def keep_good(pairs: Sequence[Pair], character: Character) -> tuple[list[Pair], list[Dropped]]:
    """Pairs to train on, and the others with their reasons. What the user wrote is never judged by its words."""
    voice = _Reference.of(character)
    kept: list[Pair] = []
    dropped: list[Dropped] = []
    seen = _Seen(frozenset(dialogue.origin for dialogue in character.dialogues), pairs)
    leaks = {pair.id for pair in leaked(pairs, character.name)}
    # held-out pairs first: what repeats one of them is a leak, not a duplicate
    for pair in sorted(pairs, key=lambda pair: pair.split != "held_out"):
        reason = "leaked" if pair.id in leaks else None
        if reason is None and pair.writer != "template":
            reason = unfit(pair, voice)
        reason = reason or seen.repeats(pair, character.name)
        if reason:
            dropped.append(Dropped(pair, reason))
        else:
            kept.append(pair)
    order = {pair.id: number for number, pair in enumerate(pairs)}
    return sorted(kept, key=lambda pair: order[pair.id]), dropped


@dataclass(frozen=True)
class _Reference:
    """What the user's own texts look like: known words, picture names, share of Latin letters, the replies."""

    name: str
    words: frozenset[str]
    pictures: frozenset[str]
    latin: float
    said: str
    """Everything that the user wrote, in lower case."""
    replies: tuple[frozenset[str], ...]
    """The four-letter runs of each of the character's own replies."""
    lines: tuple[frozenset[str], ...]
    """The same of what the user says to it."""
    sentences: tuple[frozenset[str], ...]
    """Those of each sentence that is told about the character."""
    says_its_name: bool

    @staticmethod
    def of(character: Character) -> _Reference:
        texts = [character.name, character.class_noun, character.persona, character.voice, character.appearance]
        texts += [character.opening, *character.facts, *(item.text for item in character.lore)]
        texts += [picture.caption or "" for picture in character.pictures]
        texts += [turn.text for dialogue in character.dialogues for turn in dialogue.turns]
        words = re.findall(r"[^\W\d_]+", " ".join(texts).lower())
        turns = [turn for dialogue in character.dialogues for turn in dialogue.turns]
        own = [turn.text for turn in turns if turn.role == "character"]
        asked = [turn.text for turn in turns if turn.role == "user"]
        return _Reference(
            name=character.name,
            words=frozenset(words),
            pictures=frozenset(picture.name for picture in character.pictures),
            latin=latin_share(" ".join(texts)),
            said=" ".join(texts).lower(),
            replies=tuple(grams(reply) for reply in own if len(reply.split()) >= LONG_SENTENCE),
            lines=tuple(grams(line) for line in asked if len(line.split()) >= LONG_SENTENCE),
            sentences=tuple(grams(s) for s in sentences(character.persona) if len(s.split()) >= LONG_SENTENCE),
            says_its_name=any(character.name in reply for reply in own),
        )


def unfit(pair: Pair, voice: _Reference) -> str | None:
    """Why an authored pair should not be learned, or None."""
    for image in (*pair.images("look"), *pair.images("draw")):
        if image not in voice.pictures and not image.startswith("base:"):
            return "picture that nobody sent"
    texts = [*pair.texts("user"), *pair.texts("assistant"), *pair.texts(None)]
    answers = pair.texts("assistant") or pair.texts(None)
    if any(len(re.findall(r"\w", text)) < 2 for text in texts):
        return "empty"
    if any(len(text.split()) > LONGEST_REPLY for text in answers) or any(
        len(text.split()) > LONGEST_QUESTION for text in pair.texts("user")
    ):
        return "too long"
    if any(rambles(text) for text in texts):
        return "repeats itself"
    if reason := next((why for text in texts if (why := ill_mannered(text, voice.said))), None):
        return reason
    if pair.task in _SPOKEN and (reason := _not_its_own(pair, voice)):
        return reason
    if any(abs(latin_share(text) - voice.latin) > 0.3 for text in texts):
        return "another language"
    if any(invented_names(text, voice.words) for text in texts):
        return "invented name"
    return None


def _not_its_own(pair: Pair, voice: _Reference) -> str | None:
    """Why a spoken pair does not sound as the character and its visitor do, or None."""
    line = ""
    for part in pair.parts:
        if not isinstance(part, TextPart):
            continue
        if part.role == "user":
            line = part.text
            if pair.task in TALK and not pair.source and any(_says(grams(line), known) for known in voice.lines):
                return "copies an example"
        elif part.role == "assistant":
            reply = grammar.split_plan(part.text)[0]
            if len(re.findall(r"\w", reply)) < FEWEST_LETTERS:
                return "too short"
            if echoes(reply, line):
                return "an echo of the question"
            if not voice.says_its_name and re.search(rf"(?<!\w){re.escape(voice.name)}(?!\w)", reply):
                return "speaks of itself by name"
            own = grams(reply)
            # a reply that keeps the user's words on purpose says so with its source
            if reply != pair.source and any(_says(own, known) or _says(known, own) for known in voice.replies):
                return "copies an example"
            if any(_says(own, known) for known in voice.sentences):
                return "recites the profile"
    return None


def _says(text: frozenset[str], known: frozenset[str]) -> bool:
    """Whether a text says the same as another, or holds nearly all of it."""
    return overlap(text, known) >= SIMILAR or len(text & known) >= CONTAINED * len(known)


def latin_share(text: str) -> float:
    """Share of the letters that are Latin; 1 for a text without letters."""
    letters = [character for character in text if character.isalpha()]
    return sum(letter < "\u0250" for letter in letters) / len(letters) if letters else 1.0


def rambles(text: str) -> bool:
    """Whether a text goes in circles: a sentence said twice, or less than six in ten of its word triples new."""
    said = [sentence.strip().lower() for sentence in re.split(r"[.!?]", text) if sentence.strip()]
    if len(set(said)) < len(said):
        return True
    words = re.findall(r"\w+", text.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(triples) >= 8 and len(set(triples)) < 0.6 * len(triples)


def invented_names(text: str, known: frozenset[str]) -> list[str]:
    """Capitalised words inside a sentence, or called at its beginning, that occur nowhere in what the user wrote."""
    names = []
    for sentence in re.split(r"(?<=[.!?:\n])\s+|[\"“”]", text):
        # "Ava, are you there?" calls somebody, "Foggy, apprentice, and cold." does not
        called = re.match(r"[A-Z][a-z]+, (?!\w+[,.!?])(?:.*\b(?:you|your|come|look|wait)\b|.*\?)", sentence, re.S)
        plain_first = sentence[:1].isupper() and not called
        for word in re.findall(r"\b[A-Z][a-z]+\b", sentence)[1 if plain_first else 0 :]:
            if word not in _COMMON_CAPITALS and word.lower() not in known:
                names.append(word)
    return names


# duplicates


def asked_of(pair: Pair) -> str:
    """Everything in a pair that is given, as one text."""
    if pair.images("draw"):
        return "\n".join(pair.texts(None))
    return "\n".join([*pair.texts("user"), *pair.texts("assistant")[:-1]])


def learned_of(pair: Pair) -> str:
    """The last thing that a pair teaches to say, or the picture that it teaches to draw."""
    return (pair.texts("assistant") or pair.images("draw"))[-1]


class _Seen:
    """Pairs kept so far, by what makes them comparable."""

    def __init__(self, own: frozenset[str], pairs: Sequence[Pair]) -> None:
        self._own = own
        self._exact: set[object] = set()
        self._groups = _groups(pairs, SIMILAR)

    def repeats(self, pair: Pair, name: str) -> str | None:
        """The reason when the pair says again what an earlier one said; otherwise remember it."""
        if pair.parts in self._exact:
            return "exact duplicate"
        group = self._groups[_group(pair)]
        key, asked, learned = prompt_key(asked_of(pair), name), grams(asked_of(pair)), learned_of(pair)
        # the user's own dialogues stay, however alike: only what was made from them is measured against them
        for other in () if pair.origin in self._own else group.near(key, asked):
            same = key == other.key or overlap(asked, other.asked) >= SIMILAR
            # a caption is the question: what it names is the picture, the same for all of the group
            if same and (pair.images("draw") or key == other.key or _says_the_same(learned, other.learned)):
                return "near duplicate"
        self._exact.add(pair.parts)
        group.add(_Compared(key, asked, learned))
        return None


@dataclass(frozen=True)
class _Compared:
    """What two pairs are compared by: the question's key and runs of letters, and what is learned."""

    key: str
    asked: frozenset[str]
    learned: str


def _says_the_same(one: str, other: str) -> bool:
    return overlap(grams(one), grams(other)) >= SIMILAR


class _Group:
    """Pairs that may repeat each other, found by their key or by a question that is nearly the same."""

    def __init__(self, threshold: float, frequency: Mapping[str, int]) -> None:
        self._members: list[_Compared] = []
        self._by_key: dict[str, list[int]] = {}
        self._near = NearSets(threshold, frequency)

    def add(self, member: _Compared) -> None:
        self._by_key.setdefault(member.key, []).append(len(self._members))
        self._near.add(len(self._members), member.asked)
        self._members.append(member)

    def near(self, key: str, asked: frozenset[str]) -> list[_Compared]:
        """Members with this key, and those whose question may be nearly ``asked``."""
        return [self._members[n] for n in sorted({*self._by_key.get(key, ()), *self._near.candidates(asked)})]


def _groups(pairs: Sequence[Pair], threshold: float) -> dict[object, _Group]:
    """An empty group for each kind of pair."""
    counts: dict[object, Counter[str]] = {}
    for pair in pairs:
        counts.setdefault(_group(pair), Counter()).update(grams(asked_of(pair)))
    return {group: _Group(threshold, frequency) for group, frequency in counts.items()}


def _group(pair: Pair) -> object:
    kind = "talk" if pair.task in (*TALK, "roleplay_request", "knowledge", "refusal") else pair.task
    return kind, pair.split, tuple(pair.images("look")), tuple(pair.images("draw"))


def duplicate_figures(pairs: Sequence[Pair], name: str) -> tuple[int, float]:
    """Exact duplicates left, and the share of pairs whose question or caption another pair nearly repeats.

    Pairs about different pictures are never duplicates. Unlike the filter this does not look at the answers.
    """
    exact = len(pairs) - len({(pair.task, pair.parts) for pair in pairs})
    near = 0
    groups = _groups(pairs, NEARLY_THE_SAME)
    for pair in pairs:
        group = groups[_group(pair)]
        key, asked = prompt_key(asked_of(pair), name), grams(asked_of(pair))
        near += any(
            key == other.key or overlap(asked, other.asked) >= NEARLY_THE_SAME for other in group.near(key, asked)
        )
        group.add(_Compared(key, asked, ""))
    return exact, near / len(pairs) if pairs else 0.0


def reasons(*dropped: Iterable[_HasReason]) -> dict[str, int]:
    """How many pairs, and pieces of answers, were dropped for which reason, most frequent first."""
    return dict(Counter(item.reason for items in dropped for item in items).most_common())
