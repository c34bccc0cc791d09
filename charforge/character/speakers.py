"""Who speaks: the character, the user, or somebody else.

Names are compared without regard to case, accents' encoding and decoration ("✨Wren✨" is Wren). Somebody else is
context at most: what they say is never the character's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from charforge.character.character import Role, Speaker, Voice
from charforge.words import word_set

USER_ROLES = frozenset({"user", "human", "you", "me", "{{user}}", "<user>"})
CHARACTER_ROLES = frozenset({
    "character", "assistant", "machine", "char", "bot", "gpt", "model", "{{char}}", "<bot>", "<char>",
})  # fmt: skip
_TITLES = word_set("""
    the a an mr mrs ms miss dr doctor captain cap'n lady lord sir king queen prince princess professor saint st old
    little big great my your our la le el der die das
""")
_RANDOM_USER = re.compile(r"\{\{random_user_\d{1,3}\}\}")
"""What definitions of Character.AI call a user whose name does not matter."""
_DECORATION = re.compile(r"^[\W_]+|[\W_]+$")


def folded(name: str) -> str:
    """A name as it is compared: NFC, one space between words, no case, nothing but letters and digits at its ends."""
    name = unicodedata.normalize("NFC", name)
    bare = _DECORATION.sub("", name) or name
    return " ".join(bare.split()).casefold()


def names_of(name: str, also: Iterable[str] = ()) -> frozenset[str]:
    """Everything the character may be called in a log, folded: the name, its first word, what stands before a bar."""
    names: set[str] = set()
    for known in (name, *also):
        whole = folded(known)
        if not whole:
            continue
        names.add(whole)
        before = _before_bar(known)
        first = folded(re.split(r"[\s_]", before)[0])
        names |= {part for part in (before, first) if part and part not in _TITLES and part not in USER_ROLES}
    return frozenset(names)


def _before_bar(name: str) -> str:
    """ "Wren | a tinkerer" and "Wren (tired)" -> "wren"."""
    return folded(re.split(r"\s*[|(,\[{]|\s+[-–—/]\s+", name.strip(" *_"))[0])


@dataclass(frozen=True)
class Names:
    """Who is who: ``character`` and ``users`` hold folded names; ``name`` is how the character is written."""

    name: str
    character: frozenset[str] = field(default=frozenset())
    users: frozenset[str] = field(default=frozenset())

    @staticmethod
    def of(name: str, also: Iterable[str] = (), users: Iterable[str] = ()) -> Names:
        """``also`` are other names of the character, ``users`` names of the user."""
        mine = names_of(name, also)
        return Names(name, mine, frozenset(folded(user) for user in users if folded(user)) - mine)

    def role_of(self, word: str) -> Role | None:
        """Whose word it is that stands before a line: a role or a known name; None for anybody else."""
        said = word.strip().casefold()
        if said in USER_ROLES or _RANDOM_USER.fullmatch(said):
            return "user"
        if said in CHARACTER_ROLES:
            return "character"
        known = folded(word)
        if known in self.character or _before_bar(word) in self.character:
            return "character"
        return "user" if known in self.users else None


def cast_of(spoken: Iterable[tuple[Voice, str]]) -> tuple[Speaker, ...]:
    """(whose voice, name) of every line -> the cast, whoever speaks most first within character, user, others."""
    order = {"character": 0, "user": 1, "other": 2}
    counts = Counter(spoken)
    rows = [Speaker(name, voice, count) for (voice, name), count in counts.items()]
    return tuple(sorted(rows, key=lambda row: (order[row.voice], -row.lines, row.name)))
