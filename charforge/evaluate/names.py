"""Whether a reply knows who is who: the names by which it calls the character and the user."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from charforge.words import word_set

_NAME = r"([A-Z][a-z'’]+(?:[- ][A-Z][a-z'’]+)*)"
_ITSELF = re.compile(
    rf"(?:\b(?:[Mm]y name(?: is|['’]s)|[Cc]all me|[Ii]t(?:['’]s| is) me,)\s+{_NAME}"
    # "I am Cog Harbour's best" names something else
    rf"|\b(?:I am|I['’]m)\s+{_NAME}(?!['’]s\b)(?=\s*(?:[.,;:!?*—-]|$|and\b|the\b|of\b))"
    rf"|^{_NAME}\s*:\s)",
    re.MULTILINE,
)
_GREETED = (
    r"(?:[Hh]ello|[Hh]i|[Hh]ey|[Ww]elcome(?: back)?|[Gg]ood (?:morning|day|afternoon|evening|night)|[Dd]ear"
    r"|[Gg]reetings|[Gg]oodbye|[Ff]arewell|[Tt]hank you|[Tt]hanks|[Ss]orry|[Yy]es|[Nn]o|[Ll]isten|[Pp]lease|[Yy]ou,)"
)
_USER = re.compile(
    rf"(?:\b{_GREETED},?\s+{_NAME}(?=\s*[,.!?])|,\s+{_NAME}(?=[.!?]+(?:\s|$|[\"”*])))",
    re.MULTILINE,
)
_ORDINARY = word_set("""
    i you he she it we they sir madam miss mister lord lady god heavens monday tuesday wednesday thursday friday
    saturday sunday january february march april may june july august september october november december christmas
    easter english french german spanish italian american british chinese japanese yes no oh ah well okay ok
""")
"""Words with a capital that call nobody by a name."""


def wrong_name(reply: str, name: str, own: str = "", heard: str = "") -> bool:
    """Whether a reply calls the character or the user by a name that is another's: "I am Tovan", "Good night, Selda.".

    ``name``: the character's. ``own``: everything that its files say; a name that these use in the same way
    ("I am Nib") is its own. ``heard``: what the user has said; by a name in it the user may be called.

    - Range of its mean: 0 to 1, lower is better.
    - Source: names that leak from one role into another are what character benchmarks call confusion of roles; found by
      the places where a name says who somebody is (of oneself, before a colon, after a greeting, at the end of a line).
    - Caveat: English, and words with a capital. It misses names told in the third person ("as Tovan always says"), and
      takes "We met in Paris, France." for a way to call somebody.
    """
    itself, user = _known(name, own, heard)
    for found in _ITSELF.finditer(reply):
        if not _words(_name_in(found)) & itself:
            return True
    return any(not _words(_name_in(found)) & user for found in _USER.finditer(reply))


def _name_in(found: re.Match[str]) -> str:
    # each of the places has a group of its own
    return next(group for group in found.groups() if group)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", name.lower()))


@lru_cache(maxsize=64)
def _known(name: str, own: str, heard: str) -> tuple[frozenset[str], frozenset[str]]:
    """Words by which the character and the user may be called."""
    itself = _words(name) | _ORDINARY | _all(_name_in(found) for found in _ITSELF.finditer(own))
    user = _ORDINARY | _all(_name_in(found) for found in _USER.finditer(own)) | _words(heard)
    return itself, user


def _all(names: Iterable[str]) -> frozenset[str]:
    return frozenset(word for name in names for word in _words(name))
