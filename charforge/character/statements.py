"""What a profile says, piece by piece: fields ("Breed: Shiba Inu", W++) and sentences that are about the character."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from charforge.character.attributes import attributes_as_lines
from charforge.character.name_parts import Parts
from charforge.character.profile import key_values, plain, sentences
from charforge.character.titles import written_before

_PLAIN_ATTRIBUTE = re.compile(r"([A-Za-z][\w /&'-]{0,40}?)\s*(?:\(([^()\"]+)\)|[=:]\s*([^=:;\]]+))\s*(?:[,;\]]|$)")
_QUOTED = re.compile(
    r"“[^“”]*”|\"[^\"]*\"|「[^「」]*」|『[^『』]*』|«[^«»]*»|„[^„“”]*[“”]|(?<!\w)'[^']{2,}'(?!\w)|(?<!\w)‘[^‘’]{2,}’"
)
"""Speech. None of its marks opens another one inside: a line of opening marks alone would take the square of its
length."""
_IN_BRACKETS = re.compile(r"\s*[(（\[][^()（）\[\]]*[)）\]]")
LEAD = (
    r"(?:(?:Today|Now|Nowadays|Currently|Actually|Also|These days|By day|By trade|By profession|In truth|In reality|"
    r"Born|Originally|Raised|Hailing|Known)\b[^,]{0,60},\s+)?"
)
"""What may stand before the subject."""
_GOES_ON = re.compile(
    r"(?:In|At|On|When|After|Before|Every|Although|Though|Despite|With|Without|From|During|By|For|If|Even|Under|Since|"
    r"As|Sometimes|Often|Still|Now|Today|Yet|And|But)\b"
)
"""How a sentence begins that has no subject yet: where it names nobody, it is about whom the one before was about."""
PROSE_KEYS = frozenset(
    (
        "description", "persona", "personality", "character", "about", "background", "backstory", "history", "bio",
        "biography", "summary", "introduction", "overview", "appearance", "looks", "physical description",
        "physical characteristics", "job",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A line "key: value"; ``key`` in small letters."""

    key: str
    value: str
    line: str


@dataclass(frozen=True)
class Sentence:
    """A sentence as it stands, and without what others say in it.

    ``said``: quotes and brackets removed. ``known``: a pronoun at its beginning is the character, since the sentence
    before was about it. ``key``: of the field it stands in, in small letters.
    """

    text: str
    said: str
    known: bool
    key: str = ""


def name_pattern(name: str) -> str:
    """A regular expression for the character as a subject: its name or a part, a surname and a title with it."""
    called = Parts.of(name)
    parts = [part for part in re.findall(r"\w[\w'’.-]*", called.bare) if part[0].isupper() or not part[0].isascii()]
    spoken = [part for part in parts if len(part) > 1 and part.lower() not in ("the", "de", "von", "van")]
    own = "|".join(re.escape(part) for part in dict.fromkeys([name, *called.short, *spoken[:1], *spoken[-1:]]))
    titles = "|".join(map(re.escape, written_before(called.titles)))
    more = r"(?:\s+(?:(?:de|van|von|der|of|da|del|di|la|le|the)\s+){0,2}[A-Z][\w'’-]*){0,4}"
    if re.search(r"[\u3040-\u9fff\uac00-\ud7a3]", name):
        return rf"(?:{own})"  # no space parts a name from what follows it there
    return rf"(?:(?:[Tt]he\s+|(?:{titles})\.?\s+){{0,2}}(?:{own})(?![\w])(?!['’]s?\b){more})"


def fields(text: str) -> list[Field]:
    """The fields of a profile, in order."""
    return [field for line in attributes_as_lines(text).text.split("\n") for field in _fields_of(line)]


def _fields_of(line: str) -> Iterator[Field]:
    told: list[tuple[str, str]] = []
    if line.lstrip().startswith("[") and not line.lstrip().startswith(("[character", "[Character")):
        listed = re.sub(r"^\s*\[[^:=()]*[:=](?=[^:=()]*[:=(])\s*", "", line)
        told = [(key, first or second) for key, first, second in _PLAIN_ATTRIBUTE.findall(listed)]
    if not told:
        told = key_values(line.strip().strip("[]{}"))
    for key, value in told:
        yield Field(key.strip().lower(), value.strip(), line.strip())


def sentences_of(text: str, name: str) -> list[Sentence]:
    """The sentences of a profile's prose and of its long fields, each with whether pronouns in it are the character."""
    named = re.compile(rf"(?:{LEAD}|Meet\s|This is\s|You are\s)(?:{name_pattern(name)}|{re.escape(name)}['’]s?)")
    found: list[Sentence] = []
    for line in attributes_as_lines(text).text.split("\n"):
        told = list(_fields_of(line))
        prose = [(field.key, field.value) for field in told if _is_prose(field)] if told else [("", plain(_bare(line)))]
        for key, words in prose:
            known, before = True, len(found)
            for sentence in sentences(words):
                said = " ".join(_IN_BRACKETS.sub("", _QUOTED.sub("", sentence)).split())
                begins = re.match(r"(?:He|She|They|It|His|Her|Their|Its)\b", said) is not None
                goes_on = _GOES_ON.match(said) is not None and not re.search(r"\s[A-Z][a-z]", said)
                opens = len(found) == before and said.startswith(("A ", "An "))
                known = named.match(said) is not None or opens or (known and (begins or goes_on))
                found.append(Sentence(sentence, said, known, key))
    return found


def _is_prose(field: Field) -> bool:
    return field.key in PROSE_KEYS or len(field.value.split()) > 8 or field.value.endswith((".", "!", "。"))


def _bare(line: str) -> str:
    return re.sub(r"^\s*(?:#{1,6}|[-*+•]|\d{1,3}[.)])\s+", "", line)
