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
_PARTICLES = word_set("von van de del della di da du la le zu ten ter bin ibn ben al el")
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
    family: str = ""
    """The last name with what belongs to it: "von Stein"."""

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
        begin = next((place for place, word in enumerate(words) if place and word.casefold() in _PARTICLES), 0)
        family = " ".join(words[begin:]) if named and begin else ""
        return Parts(titles, bare, words[0], words[-1] if named else "", family)

    @property
    def short(self) -> tuple[str, ...]:
        """What may stand for the whole name, as it is written."""
        roles = USER_ROLES | CHARACTER_ROLES
        return tuple(
            part
            for part in dict.fromkeys((self.bare, self.first, self.last, self.family))
            if part and folded(part) not in roles and not is_title(part) and re.search(r"[^\W\d_]", part)
        )


_WORDS = word_set("""
    rose lily daisy iris violet ivy olive holly poppy heather hazel fern willow sage rosemary ginger basil flora
    marigold clover jasmine lavender peach cherry apple berry plum pepper honey candy sugar cookie biscuit ruby amber
    jade pearl coral opal crystal diamond jet onyx star sky sun moon dawn autumn summer winter spring april may june
    august rain storm snow frost river brook lake ocean sea bay stone rock cliff hill field forest wood woods glen dale
    red blue green black white grey gray brown silver gold golden scarlet crimson faith hope grace joy honor charity
    patience prudence mercy felicity serenity destiny chance will mark frank art bill rob pat sue drew chase grant
    lance pierce rusty dusty sunny misty stormy bright wild hood wolf fox bear bird hawk raven robin lark finch jay
    drake king queen prince knight page hunter archer baker cook smith mason taylor fisher shepherd potter porter
    carpenter cooper turner miller carter parker walker marshall day night bell ball book ring cross church house hall
    lane street park gates banks bridges waters wells love young long short strong wise swift sharp small little good
    best rich power fire flame ash ember smoke shadow light blade arrow spark flash bolt thunder lightning metal iron
    steel copper rust dust sand clay mud moss leaf thorn root branch seed bloom blossom bush tree shop school
""")
"""Names that are words as well. A list is never whole: a word that it lacks is taken for the name."""


def is_a_word(name: str) -> bool:
    """Whether a part of a name at the beginning of a sentence may be a word like any other: "Rose", "Hood"."""
    return name.casefold() in _WORDS
