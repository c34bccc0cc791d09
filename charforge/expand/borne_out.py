"""What an answer of a language model may say: no more than the user's own words bear out.

Each check gives the reason why an item cannot be used, or None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from charforge.character import Character
from charforge.character.profile import sentences
from charforge.expand import choices
from charforge.expand.answers import Known, PicturedExchange, Seen


def told_of(character: Character) -> list[str]:
    """The user's own sentences about the character, each once: what a question may rest on."""
    prose = [*sentences(character.persona), *character.facts, *sentences(character.appearance)]
    return list(dict.fromkeys(" ".join(sentence.split()) for sentence in prose if len(sentence.split()) >= 3))


def quoted(sentence: str, known: Sequence[str]) -> str | None:
    """The user's sentence that ``sentence`` quotes to the letter, its number and its full stop apart."""
    said = re.sub(r"^\s*\d+[.)]\s*", "", " ".join(sentence.split())).rstrip(".")
    return next((one for one in known if one.rstrip(".") == said), None)


def not_in_sentence(item: Known, known: Sequence[str]) -> str | None:
    """Why an answer does not rest on the sentence that it names, or None."""
    source = quoted(item.sentence, known)
    if source is None:
        return "the sentence is not in the profile"
    # one word more is how it is said
    more = choices.new_words(item.answer, f"{source} {item.question}")
    return "says more than its sentence" if len(more) > 1 else None


def no_picture(item: PicturedExchange) -> str | None:
    """A picture is told in phrases: a sentence about it is no plan."""
    words = item.picture.split()
    # a capital begins a sentence or a title, and brackets hold a topic that was given
    if (
        len(words) > 24
        or item.picture[:1].isupper()
        or re.search(r"[.!?]\s|[\[\]()\"]|\b(?:I|you|my|your)\b", item.picture)
    ):
        return "the picture is not told in phrases"
    return None


def not_refused(reply: str) -> str | None:
    """A refusal says that something is not known, in whatever words; it has no number and no name for an answer."""
    if re.search(r"\d", reply):
        return "an invented answer"
    if not re.search(
        r"n['’]t\b|\b(?:not|no|never|nobody|none|nothing|cannot|unknown|secret|ask|tell me)\b", reply, re.I
    ):
        return "an invented answer" if reply.isascii() else None
    return None


def not_in_caption(item: Seen, caption: str) -> str | None:
    """Why an answer about a picture is not borne out by its caption, or None."""
    if not item.question.rstrip().endswith("?"):
        return "is no question"
    no = re.match(r"no\b", item.answer, re.IGNORECASE)
    if re.match(r"(?:yes|no)\b", item.answer, re.IGNORECASE):
        asked = choices.new_words(item.question, caption)
        if bool(asked) != bool(no):
            return "the answer is not in the caption"
    return "the answer is not in the caption" if choices.new_words(item.answer, f"{caption} {item.question}") else None
