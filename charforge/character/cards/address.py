"""The user's name where it only calls: "Good morning, Ann." is "Good morning." to a user without a name.

What stands for the user is a mark of one character. Where it is a part of its sentence ("I like Ann") it stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NEAR = 200
"""Letters on either side of a mark that are looked at."""
_COMMA = "[,，、]"
_HONORIFIC = r"-(?:san|kun|chan|sama|senpai|sensei|dono)\b"
_SENTENCE_BEGINS = re.compile(r"(?:\A\W*|\n\W*|[.!?…。！？~][\"'”’)*]*\s+[\"“*(]*|[\"“*)]\s*|[—–(]\s*)\Z")
_ENDS = re.compile(r"\s*(?:[.!?…。！？;:~—–\"”)*\n]|['’](?!\w)|\Z)|\s+-\s")
_CALL = re.compile(
    # words behind which a name is only called, with no comma between: "Hello Ann!", "Yes, Master Ann."
    r"\b(?:hello|hi|hey|hiya|greetings|welcome(?: back| home)?|good (?:morning|evening|afternoon|night|day)|goodnight"
    r"|goodbye|bye|farewell|thanks|thank you|cheers|sorry|please|yes|yeah|yep|no|nope|okay|ok|oh|ah|aww?"
    r"|my (?:dear|dearest|darling|sweet|love|friend)|master|mistress|miss|captain|boss|commander|professor"
    r"|milord|milady|lord|lady)\s+\Z",
    re.IGNORECASE,
)
_JOINS = re.compile(r"(?:\A\W*|\n\W*|[.!?…\"“*]\s*)(?:And|But|So|Then|Now|Because|Though)\s+\Z")
_AUXILIARY = (
    r"(?:is|are|am|was|were|be|has|have|had|do|does|did|will|would|can|could|should|must|may|might|isn['’]t|wasn['’]t"
    r"|won['’]t|can['’]t)"
)
_VERB_FOLLOWS = re.compile(rf"{_AUXILIARY}\b", re.IGNORECASE)
_HANGS_OPEN = re.compile(
    rf"\b(?:{_AUXILIARY}|not|and|but|or|so|that|if|when|because|though|for|with|of|to|in)\Z", re.IGNORECASE
)
_APPOSITION = re.compile(
    r"\s[^,.!?\n\"]{1,80},\s+(?:[a-z]+ly\s+)?(?:is|was|has|had|will|can|would|(?!as\b|us\b|this\b|yes\b|please|perhaps|"
    r"always|sometimes)[a-z]{2,}(?:s|ed))\b"
)
_KIN = re.compile(
    r"(?:\b(?:her|his|their|its)|['’]s)\s+(?:[\w-]+\s+)?(?:friend|brother|sister|mother|father|owner|master|son"
    r"|daughter|wife|husband|partner|roommate|flatmate|neighbou?r|apprentice|pupil|student|boss|teacher|cousin|twin"
    r"|girlfriend|boyfriend|roomie|rival|lover|child|companion)\Z",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^\W*[^\W\d_][\w '/&-]{0,30}:\s[^.!?]*$")


def without_address(text: str, mark: str, name: str) -> str:
    """``text`` without the marks that only call the user, each with its comma; ``name`` is the character's."""
    lines = re.sub(f"{mark}{_HONORIFIC}", mark, text).split("\n")
    return "\n".join(line if mark not in line or _FIELD.match(line) else _uncalled(line, mark, name) for line in lines)


@dataclass(frozen=True)
class _Cut:
    """How much before and behind a mark goes with it; ``begins``: a sentence begins behind."""

    before: int = 0
    behind: int = 0
    begins: bool = False


def _uncalled(line: str, mark: str, name: str) -> str:
    told, *rests = line.split(mark)
    for number, rest in enumerate(rests):
        after = mark.join(rests[number : number + _NEAR])[:_NEAR]
        cut = _cut(told[-_NEAR:], after, name)
        if cut is None:
            told += mark + rest
            continue
        rest = rest[cut.behind :]
        told = told[: len(told) - cut.before] + (rest[:1].upper() + rest[1:] if cut.begins else rest)
    return told


def _cut(before: str, after: str, name: str) -> _Cut | None:
    """What goes with a mark between two texts; None where it is a part of its sentence."""
    behind = re.match(rf"\s*{_COMMA}\s*", after)
    ends = _ENDS.match(after) is not None
    if behind and _goes_on_about(after, behind.end()):
        return None
    comma = re.search(rf"\s*{_COMMA}\s*\Z", before)
    if comma and comma.start():
        said = before[: comma.start()]
        if _KIN.search(said) or (behind and _is_listed(said, after[behind.end() :], name)):
            return None
        if behind:
            return _between(said, comma[0], behind[0], after[behind.end() :])
        return _Cut(len(comma[0])) if ends else None
    if behind and _JOINS.search(before):
        # "But Ann, I know" -> "But I know"
        return _Cut(behind=behind.end())
    if (behind or ends) and (call := _CALL.search(before)) is not None:
        return _Cut(len(call[0]) - len(call[0].rstrip()))
    begins = _SENTENCE_BEGINS.search(before)
    if behind and begins and after[behind.end() :].strip():
        return _Cut(behind=behind.end(), begins=begins[0].strip()[-1:] not in ("—", "–", "("))
    return None


def _between(said: str, comma: str, behind: str, after: str) -> _Cut:
    """Between commas one comma stays: none where it would part a verb from its sentence ("Tea, Ann, is hot.")."""
    asks = re.match(r"[^.!?]*\?", after) is not None
    if (_VERB_FOLLOWS.match(after) and not asks) or _HANGS_OPEN.search(said):
        return _Cut(len(comma), len(behind.rstrip()))
    return _Cut(len(comma))


def _goes_on_about(after: str, behind: int) -> bool:
    """Whether what follows the comma tells about the user: "Ann, a young apprentice, lives here", "Ann, who naps"."""
    relative = re.match(r"(?:who|whose|whom|which)\b", after[behind:])
    asks = re.match(r"[^.!?\n]*\?", after[behind:]) is not None
    return (relative is not None and not asks) or _APPOSITION.match(after[behind - 1 :]) is not None


def _is_listed(before: str, after: str, name: str) -> bool:
    """Whether the user is one of several between commas: "tea, Ann, and rain", "Wren, Ann, and Bolt"."""
    last = re.search(r"([^\s,.!?]+)\Z", before)
    one_word = re.search(rf"{_COMMA}\s*[\w-]+\Z", before) is not None
    named = last is not None and (
        before.endswith(name) or (last[1][0].isupper() and not _SENTENCE_BEGINS.search(before[: last.start()]))
    )
    joined = re.match(r"(?:and|or)\b", after) is not None
    return (joined and (one_word or named)) or (named and re.match(r"[A-Z][\w'-]+(?:,| and| or)\s", after) is not None)
