"""Who speaks: the character, the user, or somebody else.

Names are compared without regard to case, accents' encoding and decoration ("✨Wren✨" is Wren). Somebody else is
context at most: what they say is never the character's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from charforge.character.character import Role, Speaker, Voice
from charforge.character.name_parts import CHARACTER_ROLES, USER_ROLES, Parts, before_bar, folded, is_a_word
from charforge.character.titles import is_article, is_title, spoken_of_by, tells_apart

_RANDOM_USER = re.compile(r"\{\{random_user_\d{1,3}\}\}")
"""What definitions of Character.AI call a user whose name does not matter."""


@dataclass(frozen=True)
class Names:
    """Who is who: ``character`` and ``users`` hold folded names; ``name`` is how the character is written.

    ``first`` are the first names among the character's, ``titled`` its titles with its last names: where others have
    the last name too, "Dr. Kowal" may still be one only. ``spoken_of`` is "he" or "she" where its title says so.
    """

    name: str
    character: frozenset[str] = field(default=frozenset())
    users: frozenset[str] = field(default=frozenset())
    first: frozenset[str] = field(default=frozenset())
    titled: frozenset[tuple[str, str]] = field(default=frozenset())
    spoken_of: str = ""

    @staticmethod
    def of(name: str, also: Iterable[str] = (), users: Iterable[str] = (), others: Iterable[str] = ()) -> Names:
        """``also`` are other names of the character, ``users`` names of the user, ``others`` whoever else is named.

        Its first name and its last name are the character where nobody else has them.
        """
        known = [each for each in (name, *also) if folded(each)]
        whole = frozenset(form for each in known for form in (folded(each), folded(before_bar(each))) if form)
        theirs = frozenset(folded(user) for user in users if folded(user)) - whole
        parts = [Parts.of(each) for each in known]
        short = {folded(form) for part in parts for form in part.short}
        first = frozenset(folded(part.first) for part in parts if part.last and part.first in part.short)
        spoken_of = next((by for part in parts if (by := spoken_of_by(part.titles))), "")
        alone = Names(name, whole | short, theirs, first, _titled(parts), spoken_of)
        near = [other for other in (*others, *theirs) if any(part in folded(other) for part in short)]
        strangers = [other for other in near if not alone.is_character(other)]
        shared = {part for other in strangers for part in alone.shared_with(other)} | theirs
        titled = alone.titled - _titled([Parts.of(other) for other in strangers])
        return replace(alone, character=whole | (short - shared), titled=titled)

    def shared_with(self, other: str) -> frozenset[str]:
        """The parts of the character's name that somebody else has too: "Marek Kowal", "Julia Novak"."""
        parts = Parts.of(other)
        first, last = folded(parts.first), folded(parts.last or (parts.bare if parts.titles else ""))
        if first in self.first and last in self.character:
            # a name in the middle
            return frozenset()
        return frozenset(({first} & self.first) | ({last, folded(parts.family)} & self.character - self.first))

    def role_of(self, word: str) -> Role | None:
        """Whose word it is that stands before a line: a role or a known name; None for anybody else."""
        said = word.strip().casefold()
        if said in CHARACTER_ROLES or self.is_character(word):
            return "character"
        if said in USER_ROLES or _RANDOM_USER.fullmatch(said):
            return "user"
        return "user" if folded(word) in self.users else None

    def subject_of(self, sentence: str) -> str:
        """The character's name at the beginning of a sentence, as it stands there; else nothing."""
        if self.name and re.match(rf"{re.escape(self.name)}(?!\w)", sentence):
            return self.name
        begins = _BEGINS.match(sentence)
        # "Rose petals make her sneeze." is not about Rose Tyler
        if begins is None or not self.is_character(begins[1]):
            return ""
        sure = not is_a_word(begins[1]) or _SURELY.match(sentence[begins.end() :])
        return begins[1] if sure else ""

    def may_be_character(self, word: str) -> bool:
        """Whether nobody can say whose a name is: a title alone, or a part that others have too."""
        bare, own = folded(Parts.of(word).bare), Parts.of(self.name)
        titles = [title for title in own.titles if not is_article(title)]
        return not self.is_character(word) and bare in {*(folded(part) for part in own.short), *titles}

    def is_character(self, word: str) -> bool:
        """Whether a name is the character's: in full, a part that nobody else has, or either of them with a title."""
        if folded(word) in self.character or folded(before_bar(word)) in self.character:
            return True
        parts = Parts.of(word)
        bare, spoken_of = folded(parts.bare), spoken_of_by(parts.titles)
        if any((title, bare) in self.titled for title in parts.titles):
            return True
        if not parts.titles or bare not in self.character or tells_apart(parts.titles):
            return False
        # "Mrs. Claus" is not Santa Claus, and "Miss Julia" is Julia Kowal
        return not spoken_of or spoken_of == self.spoken_of or (not self.spoken_of and bare in self.first)


_BEGINS = re.compile(r"((?:[A-Z][\w'-]*\.?\s+){0,3}?[A-Z][\w-]*)(?=['’]s\s|\s+(?!(?:of|and|the|de|von|van)\s)[a-z])")
"""The name at the beginning of a sentence: "Dr. Kowal naps.", "Julia's bees hum."."""
_SURELY = re.compile(r"['’]s\s|\s+(?:is|was)\s+(?:an?|born)\s")
"""What only follows a name that is a word as well: "Rose is a baker."."""


def _titled(names: Iterable[Parts]) -> frozenset[tuple[str, str]]:
    """(title, last name) of names that have both."""
    return frozenset(
        (title, folded(last))
        for part in names
        for title in part.titles
        for last in (part.last, part.family)
        if last and is_title(title)
    )


def cast_of(spoken: Iterable[tuple[Voice, str]]) -> tuple[Speaker, ...]:
    """(whose voice, name) of every line -> the cast, whoever speaks most first within character, user, others."""
    order = {"character": 0, "user": 1, "other": 2}
    counts = Counter(spoken)
    rows = [Speaker(name, voice, count) for (voice, name), count in counts.items()]
    return tuple(sorted(rows, key=lambda row: (order[row.voice], -row.lines, row.name)))
