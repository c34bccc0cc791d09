"""What stands before a name and is no part of it: "Dr.", "Captain", "the". Titles say at most whether he or she is
meant.
"""

from __future__ import annotations

import re
import unicodedata

from charforge.words import word_set

_OF_HIM = word_set("""
    mr mister sir lord king prince emperor baron herr hr señor signor monsieur pan
    господин г-н дядя дед царь король князь граф
""")
_OF_HER = word_set("""
    mrs ms miss madam madame mme mlle lady dame queen princess empress duchess countess baroness frau fräulein señora
    señorita signora signorina pani mademoiselle госпожа г-жа тётя тетя баба царица королева княгиня графиня
""")
_OF_ANYBODY = word_set("""
    mx dr doctor doc prof professor captain capt cap'n cpt commander cmdr lieutenant lt sergeant sgt colonel col general
    gen admiral private pvt corporal officer detective inspector reverend rev father mother brother sister saint st
    judge president senator doktor professorin doctora dra professeur dottor dottore docteur
    доктор д-р др профессор проф капитан майор генерал святой святая доктора
""")
_MAYBE_NAMES = word_set("don duke earl major dean count pan chief master rex")
"""Titles that people are called by as well: Don Draper, Duke Nukem."""
_ARTICLES = word_set("the a an my your our la le el der die das")
_ATTRIBUTES = word_set("old young little big great")
_PREFIXES = _OF_HIM | _OF_HER | _OF_ANYBODY | _MAYBE_NAMES | _ARTICLES | _ATTRIBUTES
_BEHIND = re.compile(r"(?i:jr|sr|phd|ph\.d|md|m\.d|esq)\.?|[IVX]{2,}")
_GOES_ON = word_set("of in on at with from to the for and & der des")
"""Words behind which a title is the name itself: King of Hearts, Pan the Faun."""
_RUN_ON = re.compile(r"(?<=\w{2})\.(?=[^\W\d_]{2})")


_SAME = {
    "mr": "mister", "mrs": "madam", "dr": "doctor", "doc": "doctor", "prof": "professor", "capt": "captain",
    "cpt": "captain", "cap'n": "captain", "lt": "lieutenant", "sgt": "sergeant", "col": "colonel", "gen": "general",
    "st": "saint", "д-р": "доктор", "др": "доктор", "проф": "профессор", "г-н": "господин", "г-жа": "госпожа",
}  # fmt: skip


def _key(word: str) -> str:
    plain = unicodedata.normalize("NFC", word).casefold().rstrip(".").replace("’", "'")
    return _SAME.get(plain, plain)


def without_titles(name: str) -> tuple[tuple[str, ...], str]:
    """ "The Dr. Julia Kowal, PhD" -> (("the", "doctor"), "Julia Kowal"). One word is always left."""
    words = _RUN_ON.sub(". ", name).replace(",", " ").split()
    titles: list[str] = []
    while len(words) > 1 and _key(words[0]) in _PREFIXES and words[1].casefold() not in _GOES_ON:
        titles.append(_key(words.pop(0)))
    while len(words) > 1 and _BEHIND.fullmatch(words[-1]):
        words.pop()
    return tuple(titles), " ".join(words)


def is_title(word: str) -> bool:
    """Whether the word alone names nobody: "Captain", "the"."""
    return _key(word) in _PREFIXES - _MAYBE_NAMES


def is_titled(name: str) -> bool:
    """Whether a name has a title: what has one is surely a person."""
    return any(not is_article(title) for title in without_titles(name)[0])


def is_article(title: str) -> bool:
    """Whether what stands before a name is no title: "the", "my"."""
    return title in _ARTICLES | _ATTRIBUTES


def tells_apart(titles: tuple[str, ...]) -> bool:
    """Whether a title is the name of one among several: "Old Tom" is not "Young Tom"."""
    return not _ATTRIBUTES.isdisjoint(titles)


def spoken_of_by(titles: tuple[str, ...]) -> str:
    """ "he" or "she" where a title says so, else nothing."""
    if any(title in _OF_HER for title in titles):
        return "she"
    return "he" if any(title in _OF_HIM for title in titles) else ""


def written_before(titles: tuple[str, ...]) -> list[str]:
    """The titles that may stand before the name of somebody who has ``titles``: "Mrs. Fox" is not Mr. Fox."""
    other = {"he": _OF_HER, "she": _OF_HIM}.get(spoken_of_by(titles), frozenset())
    return sorted(word[0].upper() + word[1:] for word in _PREFIXES - _ARTICLES - other)


def abbreviated(label: str) -> str:
    """A label without the full stops of titles and initials: "Dr. J. R. Novak" -> "Dr J R Novak"."""
    return re.sub(
        r"(?<![\w'’-])([^\W_][\w'’-]*)\.(?=\s|$|\w)",
        lambda found: found[1] if len(found[1]) == 1 or _key(found[1]) in _PREFIXES else found[0],
        label,
    )
