"""Plain text in which names stand before the words: "User: Hello." / "Wren: Mind the paint."

The grammar takes what people and programs write: full-width colons, times before the name, names in asterisks or
brackets, a mood behind the name ("Wren (annoyed):"), names as headings. A line that begins like a name but is nobody
known is judged by where it stands, see ``_settle``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from charforge.character.character import Dialogue, Role, Voice
from charforge.character.lines import Line, dialogue, logged, spoken, tell_macros
from charforge.character.name_parts import CHARACTER_ROLES, USER_ROLES, folded
from charforge.character.notes import Notes
from charforge.character.picture_names import without_marks
from charforge.character.speakers import Names
from charforge.character.titles import abbreviated, is_titled

_DIVIDER = re.compile(
    r"^\s*(?:(?:[-–—]\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,}|(?:=\s*){3,}|(?:~\s*){3,}|<START>|#{1,6}\s.*)\s*$", re.I
)
_HEADING = re.compile(r"^\s*#{1,6}\s+(.*?)[\s#]*$")
_TIME = re.compile(
    r"^\s*[\[(]?(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[,T]?\s*)?(?:\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?(?:\s*[ap]\.?m\.?)?)"
    r"[\])]?\s*(?:[-–—|]\s*)?(?=\S)",
    re.I,
)
_LEAD = re.compile(r"^\s*(?:[-*>+•]\s+|>\s*)*")
_WRAP = "*_\"'“”[]()【】「」`~ "
_ANGLE = re.compile(r"^\s*<([^<>\n]{1,60})>\s+(?=\S)")
_COLON = re.compile(r"[:：]")
_MOOD = re.compile(r"^(.*?)\s*[(（\[*]([^()（）\[\]*]{1,60})[)）\]*][*_]*\s*$")
_LABEL = re.compile(r"^[^\W\d_][^.!?。！？,;，；\n]{0,39}$")
_WEAK: dict[Role, set[str]] = {
    "user": {"you", "me"},
    "character": {"character", "machine", "char", "bot", "gpt", "model"},
}
"""Role words that mean something only where nobody is named: in a file with "User:" a "Me:" is a word of a list."""


@dataclass
class _Mark:
    """A line that begins with who speaks, and the lines that belong to it. ``role`` is None for nobody known."""

    number: int
    label: str
    role: Role | None
    texts: list[str]
    after_empty: bool
    follows_colon: bool
    raw: str
    mood: str = ""
    voice: Voice | None = None
    heading: bool = False


@dataclass
class _Section:
    """What stands between two dividers."""

    marks: list[_Mark] = field(default_factory=list)
    before: list[tuple[int, str]] = field(default_factory=list)


def read_text_log(text: str, file: str, names: Names, notes: Notes, log: bool, lenient: bool = False) -> list[Dialogue]:
    """The dialogues of a text.

    ``log``: one running conversation, cut into parts; otherwise a new dialogue begins at a divider, a heading, or
    where anybody but the character speaks after an empty line. ``lenient``: somebody else's text, in which nothing is
    an error.
    """
    sections = _sections(text, names)
    for section in sections:
        for number, line in section.before:
            _outside(line, number, file, names, notes)
    _settle(sections, names)
    _ask(sections, file, names, notes)
    dialogues: list[Dialogue] = []
    for section in sections:
        lines = _lines(section, file, names, notes)
        if log:
            dialogues += logged([line for _, line in lines], names, notes)
            continue
        unknown: set[str] = set()
        for block in _blocks(lines):
            said = [clean for line in block if (clean := _cleaned(line, names, notes, unknown)) is not None]
            if said:
                made = dialogue(said, block[0].place, notes, strict=not lenient)
                dialogues += [made] if made is not None else []
        tell_macros([line for _, line in lines], unknown, notes)
    return dialogues


def _cleaned(line: Line, names: Names, notes: Notes, unknown: set[str]) -> Line | None:
    return spoken(line, names, notes, unknown) if line.text else line


def _outside(line: str, number: int, file: str, names: Names, notes: Notes) -> None:
    remedy = f'start the line with "User:" or "{names.name or "NAME"}:"'
    notes.warn(f"{file}:{number}", "stands before the first speaker and is not read", remedy)
    notes.pass_over(file, str(number), "turn", line.strip(), "stands before the first speaker", remedy)


# marks


def _sections(text: str, names: Names) -> list[_Section]:
    sections = [_Section()]
    after_empty, last = False, ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            after_empty = True
            continue
        heading = _HEADING.match(line)
        role = names.role_of(heading[1].strip(_WRAP + ":：")) if heading else None
        if heading and role is not None:
            mark = _Mark(number, heading[1].strip(_WRAP + ":："), role, [], after_empty, False, line, heading=True)
            sections[-1].marks.append(mark)
        elif _DIVIDER.match(line):
            sections.append(_Section())
        else:
            mark_here = _mark(line, number, names, after_empty, last)
            if mark_here is not None:
                sections[-1].marks.append(mark_here)
            elif sections[-1].marks:
                sections[-1].marks[-1].texts.append(line.strip())
            else:
                sections[-1].before.append((number, line))
        after_empty, last = False, line
    return sections


def _mark(line: str, number: int, names: Names, after_empty: bool, last: str) -> _Mark | None:
    """Who the line says speaks: a role, a known name, or what looks like a name."""
    body = _LEAD.sub("", line)
    timed = _TIME.match(body)
    rest = body[timed.end() :] if timed else body
    follows = last.rstrip(_WRAP).endswith((":", "："))
    angle = _ANGLE.match(rest)
    if angle and folded(angle[1]) != "start":
        said = rest[angle.end() :]
        return _Mark(number, angle[1].strip(), names.role_of(angle[1]), [said], after_empty, follows, line)
    unknown: _Mark | None = None
    for colon in list(_COLON.finditer(rest[:120]))[:4]:
        label, said = rest[: colon.start()].strip(_WRAP), rest[colon.end() :]
        said = (
            re.sub(r"^[*_]{1,3}(?=\s|$)|^[*_\]】」\"”]{1,3}\s*(?=\S)(?<![*_])", "", said) if rest[:1] in _WRAP else said
        )
        role, mood = names.role_of(label), ""
        moody = _MOOD.match(rest[: colon.start()]) if folded(label) not in names.character else None
        if moody and (called := names.role_of(moody[1].strip(_WRAP))) is not None:
            role, label, mood = called, moody[1].strip(_WRAP), moody[2]
        if role is not None:
            return _Mark(number, label, role, [said.strip()], after_empty, follows, line, mood)
        if unknown is None and _looks_like_a_name(label, said, colon[0]):
            unknown = _Mark(number, label, None, [said.strip()], after_empty, follows, line)
    return unknown


def _looks_like_a_name(label: str, said: str, colon: str) -> bool:
    """At most four words that begin like a name, and a colon as it stands behind one (not "12:30" or "https:")."""
    if not _LABEL.match(abbreviated(label)) or len(label.split()) > 4 or said.startswith("//"):
        return False
    return (label[0].isupper() or not label[0].isascii()) and (colon == "：" or said[:1] in ("", " ", "\t"))


# who the others are


def _settle(sections: Sequence[_Section], names: Names) -> None:
    """Decide for every mark whether it is the character, the user, somebody else, or part of what was said before.

    A role word is nobody where the file names that role properly. Somebody unknown is a speaker where the same side
    would otherwise answer itself (Wren, Ann, Wren), or where the name comes back; where it stands once inside one
    side's words, as in a list, it is part of them. The one unknown speaker of a text without a user is the user.
    """
    for section in sections:
        _settle_weak(section.marks)
    counts = Counter(folded(m.label) for s in sections for m in s.marks if m.role is None and not m.follows_colon)
    speaking: set[str] = set()
    for section in sections:
        known: Role | None = None
        for index, mark in enumerate(section.marks):
            if mark.role is not None:
                known = mark.role
            elif not mark.follows_colon and not _in_a_list(section.marks, index):
                after = next((m.role for m in section.marks[index + 1 :] if m.role is not None), None)
                if (known is None or after == known) and after is not None:
                    speaking.add(folded(mark.label))
    speaking |= {
        label for label, count in counts.items() if count > 1 and label not in USER_ROLES | CHARACTER_ROLES
    } - _listed(sections)
    has_user = any(mark.role == "user" for section in sections for mark in section.marks)
    user = next(iter(speaking)) if len(speaking) == 1 and not has_user else None
    for section in sections:
        for mark in section.marks:
            label = folded(mark.label)
            if mark.role is not None:
                mark.voice = mark.role
            elif label in speaking and not mark.follows_colon:
                mark.voice = "user" if label == user else "other"


def _settle_weak(marks: Sequence[_Mark]) -> None:
    """Take the role from role words that are nobody's. "You:" and "Me:" keep it where the user's turn is: behind the
    character's words or at the beginning of a block, and before the character's.
    """
    strong = {role: any(mark.role == role and not _is_weak(mark) for mark in marks) for role in _WEAK}
    sure = [mark.role if mark.role and not (strong[mark.role] and _is_weak(mark)) else None for mark in marks]
    before, after = [*_last_of(sure)], [*_last_of(sure[::-1])][::-1]
    for place, mark in enumerate(marks):
        if mark.role is None or sure[place] is not None or mark.heading:
            continue
        begins = mark.after_empty or before[place] != "user"
        turn = begins and after[place] != "user" and not mark.follows_colon
        if not (mark.role == "user" and turn):
            mark.role = None


def _is_weak(mark: _Mark) -> bool:
    return mark.role is not None and mark.label.strip().casefold() in _WEAK[mark.role]


def _last_of(roles: Sequence[Role | None]) -> Iterator[Role | None]:
    """For every place the last role before it."""
    last: Role | None = None
    for role in roles:
        yield last
        last = role or last


def _in_a_list(marks: Sequence[_Mark], index: int) -> bool:
    """Whether a line stands among lines that all look like unknown names, the first of them behind a colon."""
    while index > 0 and marks[index].role is None and not marks[index].after_empty:
        if marks[index].follows_colon:
            return True
        index -= 1
    return marks[index].role is None and marks[index].follows_colon


def _listed(sections: Sequence[_Section]) -> set[str]:
    """Labels that only ever stand in lists."""
    where: defaultdict[str, set[bool]] = defaultdict(set)
    for section in sections:
        for index, mark in enumerate(section.marks):
            if mark.role is None:
                where[folded(mark.label)].add(_in_a_list(section.marks, index))
    return {label for label, listed in where.items() if listed == {True}}


def _ask(sections: Sequence[_Section], file: str, names: Names, notes: Notes) -> None:
    """Ask about every unknown name once: who that is decides what is learned."""
    marks = [mark for section in sections for mark in section.marks if mark.role is None]
    for label in dict.fromkeys(folded(mark.label) for mark in marks):
        mine = [mark for mark in marks if folded(mark.label) == label]
        voices = {mark.voice for mark in mine}
        first = mine[0]
        lines = f"{len(mine)} lines" if len(mine) > 1 else "a line"
        if "user" in voices:
            notes.warn(
                f"{file}:{first.number}",
                f"{first.label!r} speaks {lines}, and no file says who that is: taken for the user",
                f"if it is {names.name} instead, write aliases: {first.label} into character.md",
            )
        elif "other" in voices:
            notes.warn(
                f"{file}:{first.number}",
                f"{first.label!r} speaks {lines}, and no file says who that is: context, never learned",
                f'write "User:" if it is the user, "{names.name}:" if it is {names.name}',
            )
        elif is_titled(label) or not any(mark.follows_colon or _starts_a_list(mark, marks) for mark in mine):
            notes.warn(
                f"{file}:{first.number}",
                f"begins like a speaker ({first.label!r}), and is read as part of what is said before it",
                'if somebody else speaks there, write "User:" or leave the line out',
            )


def _starts_a_list(mark: _Mark, marks: Sequence[_Mark]) -> bool:
    return any(other is not mark and abs(other.number - mark.number) == 1 for other in marks)


# lines


def _lines(section: _Section, file: str, names: Names, notes: Notes) -> list[tuple[bool, Line]]:
    """(whether an empty line stands before it, line) of the section."""
    lines: list[tuple[bool, Line]] = []
    for mark in section.marks:
        text, image, odd = without_marks("\n".join(part for part in mark.texts if part))
        if odd is not None:
            notes.warn(f"{file}:{mark.number}", f"holds a mark that was not understood: {odd}", "write [image: NAME]")
        if mark.voice is None and lines:
            whole, image_there, _ = without_marks("\n".join([mark.raw.strip(), *mark.texts[1:]]))
            empty, last = lines[-1]
            joined = "\n".join(part for part in (last.text, whole) if part)
            lines[-1] = (empty, replace(last, text=joined, image=image_there or last.image))
            continue
        if mark.voice is None:
            _outside("\n".join([mark.raw, *mark.texts[1:]]), mark.number, file, names, notes)
            continue
        if mark.mood:
            notes.change(file, str(mark.number), "turn", f"the mood behind the name was left out: ({mark.mood})")
        if not text and image is None:
            continue
        called = mark.label if mark.role is None else names.name if mark.voice == "character" else "the user"
        notes.hear(mark.voice, called)
        lines.append((mark.after_empty, Line(f"{file}:{mark.number}", mark.voice, called, text, image)))
    return lines


def _blocks(lines: Sequence[tuple[bool, Line]]) -> list[list[Line]]:
    """A new dialogue begins where somebody who is not the character speaks after an empty line and a reply, and is
    answered.
    """
    blocks: list[list[Line]] = []
    last_reply = max((place for place, (_, line) in enumerate(lines) if line.voice == "character"), default=-1)
    for place, (after_empty, line) in enumerate(lines):
        answered = bool(blocks) and blocks[-1][-1].voice != "user" and any(x.voice == "character" for x in blocks[-1])
        begins = line.voice == "user" or (line.voice == "other" and place < last_reply)
        if not blocks or (begins and after_empty and answered):
            blocks.append([])
        blocks[-1].append(line)
    return blocks
