"""Where sentences end: full stops that end none, behind titles, initials and abbreviations, and texts without one."""

from __future__ import annotations

import re

from charforge.words import word_set

_TITLES = word_set("""
    Mr Mrs Ms Mx Dr Drs Prof Messrs Mme Mlle St Ste Capt Cpt Cmdr Lt Sgt Cpl Pvt Maj Gen Adm Brig Rev Fr Hon Gov Sen
    Rep Pres Supt Insp Det Hr Fra Mt Ft
""")
"""What stands before a name."""
_INSIDE = word_set("Jr Sr vs etc e.g i.e cf approx ca viz bzw usw")
"""What stands in a sentence, and at its end as well: such a stop is taken for none."""
_NUMBERED = word_set("b c d p pp No Nr no nr Vol vol Ch ch Fig fig")
"""What stands before a number: "No. 5", "b. 1948"."""
_LAST_WORD = re.compile(r"(?:^|(?<=[\s(\[\"'“‘«*_-]))(\w+(?:\.\w+)*)\.$")
_BEGINS = word_set("""
    He She They It We You I The A An His Her Its Their My Your Our This That These Those There Here In On At By For
    From With When While If As After Before But And Or So Then Now Yet Not No Yes Who What Where Why How Everyone
    Everybody Nobody Nothing Once Since Although Though Even Only Just Let All Some Most Many Every Each Both Never
    Always Sometimes Often Because
""")
"""Words that begin a sentence and are no part of a name."""


_ENDS = re.compile(r"[.!?:;,…。！？][\"'”’)*_」』）]*$")


def ended(text: str) -> str:
    """The text with a full stop where it has no mark at its end."""
    return text if _ENDS.search(text) else f"{text}."


def ends_no_sentence(text: str, stop: int) -> bool:
    """Whether the full stop before ``stop`` belongs to the word before it: "Mr. Fox", "J. R. Fox", "Samuel L. Fox".

    A single capital letter is an initial where a name goes on behind it: "plan B. It failed" are two sentences.
    """
    word = _LAST_WORD.search(text[max(0, stop - 40) : stop])
    if word is None:
        return False
    following = re.match(r"\s+[\"“]?([^\W\d_][\w'’-]*|\d+)(\.?)", text[stop:])
    goes_on = following is not None and following[1] not in _BEGINS
    if word[1] in _TITLES or word[1] in _INSIDE:
        # "Baker St. It is wet." is a street
        return word[1] != "St" or following is None or goes_on
    if following is not None and following[1].isdigit():
        return word[1] in _NUMBERED
    if not re.fullmatch(r"[^\W\d_](?:\.[^\W\d_])*", word[1]) or not word[1].replace(".", "").isupper():
        return False
    if following is None:
        return False
    if not following[1][0].isupper() or (len(following[1]) == 1 and following[2]):
        return True
    return word[1] != "I" and goes_on
