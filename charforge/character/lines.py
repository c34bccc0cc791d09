"""Lines as files have them -> dialogues: cleaned, told apart by who speaks, joined so that two sides alternate.

Every reader of conversations makes ``Line``s and hands them to ``dialogue``; every line is afterwards either in the
dialogue or in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from charforge.character.cards.macros import resolved
from charforge.character.character import Dialogue, Role, Turn, Voice
from charforge.character.cleaning import HALF, cleaned, one_line
from charforge.character.notes import Notes
from charforge.character.speakers import Names

MOST_TURNS = 6
"""A long evening is cut into conversations of this many turns: the base reads each as a whole."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one side says, as a file has it. ``place`` is "dialogues.jsonl:3"; ``name`` who speaks by the file.

    ``image`` is the name of the picture sent with it.
    """

    place: str
    voice: Voice
    name: str
    text: str
    image: str | None = None


def place_parts(place: str) -> tuple[str, str]:
    """ "dialogues.jsonl:3" -> ("dialogues.jsonl", "3"): the file and the place in it."""
    file, _, where = place.rpartition(":")
    return (file, where) if file else (place, "")


def spoken(line: Line, names: Names, notes: Notes, unknown: set[str]) -> Line | None:
    """The line with its macros resolved and markup taken off, told in ``notes``; None where no words are left."""
    clean = cleaned(line.text)
    text = resolved(clean.text, names.name, "you", unknown) if "{{" in clean.text or "<" in clean.text else clean.text
    file, where = place_parts(line.place)
    if line.text.strip() and not text.strip():
        notes.pass_over(file, where, "turn", line.text, f"nothing but {' and '.join(clean.removed) or 'macros'}")
        return None
    if HALF in clean.removed:
        notes.warn(line.place, "holds half a character, which is left out", "look at the line, or leave it as it is")
    if clean.removed:
        notes.change(file, where, "turn", f"{', '.join(clean.removed)} removed")
    return replace(line, text=text.strip())


@dataclass
class _Side:
    """What one side says until the other speaks."""

    role: Role
    texts: list[str] = field(default_factory=list)
    image: str | None = None
    lines: list[Line] = field(default_factory=list)

    def add(self, line: Line) -> None:
        name = one_line(line.name)
        said = f"{name}: {line.text}" if line.voice == "other" and name and line.text else line.text
        self.texts += [said] if said else []
        self.image = line.image or self.image
        self.lines.append(line)


def dialogue(lines: Sequence[Line], origin: str, notes: Notes, strict: bool) -> Dialogue | None:
    """One dialogue from ``lines`` in order, or None where they teach no reply.

    What somebody else says stands with the user's words, under its name: the character hears it and never says it.
    ``strict``: the file is the user's own writing, so that what is missing is an error; otherwise it is passed over
    and told.
    """
    sides: list[_Side] = []
    for line in lines:
        role: Role = "character" if line.voice == "character" else "user"
        if not sides or sides[-1].role != role:
            sides.append(_Side(role))
        sides[-1].add(line)
    why = _useless(sides)
    if why is not None:
        reason, remedy = why
        if strict:
            notes.refuse(origin, reason, remedy)
        for line in lines:
            _leave(line, f"its dialogue {reason}", notes, remedy)
        return None
    if sides[-1].role == "user":
        if strict and any(line.voice == "user" for line in sides[-1].lines):
            notes.warn(origin, "ends with the user: the last line is not used", "write the reply to it")
        for line in sides.pop().lines:
            _leave(line, "nobody answers it", notes, "write the reply to it")
    file, _ = place_parts(origin)
    notes.take(file, "turn", sum(1 for side in sides for line in side.lines if line.text))
    return Dialogue(tuple(Turn(side.role, "\n".join(side.texts), side.image) for side in sides), origin)


def _leave(line: Line, reason: str, notes: Notes, remedy: str) -> None:
    if line.text:
        file, where = place_parts(line.place)
        notes.pass_over(file, where, "turn", line.text, reason, remedy)


def _useless(sides: list[_Side]) -> tuple[str, str] | None:
    """Why these sides teach no reply, with the remedy; None where they do."""
    if not any(side.texts for side in sides):
        return "is empty", "write both sides, or remove it"
    if {side.role for side in sides} != {"user", "character"}:
        only = "the user" if sides[0].role == "user" else "the character"
        return f"is one-sided: only {only} speaks", "write both sides, or remove it"
    if any(not side.texts for side in sides):
        return "has a turn without words", "write its words, or remove it"
    heard = False
    for side in sides:
        if side.role == "character" and heard:
            return None
        heard = heard or side.role == "user"
    return "has no reply to the user", "write the reply after the question"


def conversations(lines: Sequence[Line]) -> list[list[Line]]:
    """A long log in parts: cut before a user's line once a part is long enough, and after a reply without words.

    A reply without words leaves the question before it unanswered: joined to the next question it would be answered
    by a reply to something else.
    """
    parts: list[list[Line]] = [[]]
    turns, last = 0, None
    for line in lines:
        role = "character" if line.voice == "character" else "user"
        if parts[-1] and role == "user" and (last == "character" and turns >= MOST_TURNS):
            parts.append([])
            turns, last = 0, None
        if role != last:
            turns += 1
        last = role
        parts[-1].append(line)
        if role == "character" and not line.text:
            parts.append([])
            turns, last = 0, None
    return [part for part in parts if part]


def logged(lines: Sequence[Line], names: Names, notes: Notes) -> list[Dialogue]:
    """The dialogues of a log in the order of its lines. Lines that teach no reply are in the ledger afterwards."""
    unknown: set[str] = set()
    said: list[Line] = []
    for line in lines:
        clean = spoken(line, names, notes, unknown) if line.text.strip() else replace(line, text="")
        # a reply that is nothing but reasoning leaves its question unanswered too
        said.append(clean if clean is not None else replace(line, text=""))
    tell_macros(lines, unknown, notes)
    found = []
    for part in conversations(said):
        words = [line for line in part if line.text or line.voice == "character"]
        if any(line.text for line in words):
            made = dialogue(_answered(words, notes), part[0].place, notes, strict=False)
            found += [made] if made is not None else []
    return found


def _answered(part: list[Line], notes: Notes) -> list[Line]:
    """A part without the reply that has no words, and without the question that it leaves unanswered."""
    if not part or part[-1].text:
        return part
    rest = part[:-1]
    while rest and rest[-1].voice != "character":
        line = rest.pop()
        _leave(line, "the reply to it has no words", notes, "")
    return rest


def tell_macros(lines: Sequence[Line], unknown: set[str], notes: Notes) -> None:
    """One warning for the macros of a file that nobody knows."""
    if unknown and lines:
        file, _ = place_parts(lines[0].place)
        told = ", ".join(f"{{{{{word}}}}}" for word in sorted(unknown)[:5])
        notes.warn(file, f"has macros that are not known: {told}", "they were left out")
