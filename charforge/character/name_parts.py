"""A name as it is compared, and what people shorten it to."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from charforge.character.titles import is_title, without_titles
from charforge.words import word_set

USER_ROLES = frozenset({"user", "human", "you", "me", "{{user}}", "<user>"})
CHARACTER_ROLES = frozenset({
    "character", "assistant", "machine", "char", "bot", "gpt", "model", "{{char}}", "<bot>", "<char>",
})  # fmt: skip
_NO_SURNAME_AFTER = word_set("the of in on at with from to for der des")
_DECORATION = re.compile(r"^[\W_]+|[\W_]+$")


def folded(name: str) -> str:
    """A name as it is compared: NFC, one space between words, no case, nothing but letters and digits at its ends."""
    name = unicodedata.normalize("NFC", name)
    bare = _DECORATION.sub("", name) or name
    return " ".join(bare.split()).casefold()


def before_bar(name: str) -> str:
    """ "Wren | a tinkerer" and "Wren (tired)" -> "Wren"."""
    return re.split(r"\s*[|(,\[{]|\s+[-–—/]\s+", name.strip(" *_"))[0]


@dataclass(frozen=True)
class Parts:
    """A name as people shorten it: "Dr. Julia Kowal" is "Julia Kowal", "Julia" and "Kowal" with the title "dr".

    ``bare`` is the name without titles; ``first`` and ``last`` are empty where it is one word, or where its last word
    is no name of its own: the "Bees" of "Keeper of Bees", the "Great" of "Alexander the Great".
    """

    titles: tuple[str, ...]
    bare: str
    first: str = ""
    last: str = ""

    @staticmethod
    def of(name: str) -> Parts:
        """The parts of a name as it is written."""
        before = before_bar(name)
        titles, bare = without_titles(before)
        words = [word for word in re.split(r"[\s_・·]+", bare) if word]
        begins = re.split(r"[\s_]", before)[0]
        if len(words) < 2:
            # "Duke Nukem": the title may be what he is called by
            return Parts(titles, bare, begins if titles and not is_title(begins) else "")
        lower = words[-1][0].islower() and not bare.islower()
        named = not lower and not any(word.casefold() in _NO_SURNAME_AFTER for word in words)
        return Parts(titles, bare, words[0], words[-1] if named else "")

    @property
    def short(self) -> tuple[str, ...]:
        """What may stand for the whole name, as it is written."""
        roles = USER_ROLES | CHARACTER_ROLES
        return tuple(
            part
            for part in dict.fromkeys((self.bare, self.first, self.last))
            if folded(part) not in roles and not is_title(part) and re.search(r"[^\W\d_]", part)
        )
