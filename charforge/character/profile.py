"""character.md, facts.md and free profiles -> named pieces of prose."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field

from charforge.character.field_lines import FieldLine, field_lines, prose_of
from charforge.character.name_parts import Parts, folded
from charforge.errors import Problem
from charforge.full_stops import ends_no_sentence

FRONT_KEYS = {
    "name": "The character's name.",
    "class": 'What it is, for example "voxel person" or "Shiba Inu dog". It stands beside the name in every prompt '
    "and holds the look together.",
    "author": "Who made the character. It is written into the bundle.",
    "license": "Under which terms. It is written into the bundle.",
    "opening": "The first thing it says in a conversation.",
    "persona": "The section Persona on one line.",
    "voice": "The section Voice on one line.",
    "appearance": "The section Appearance on one line.",
    "breed": "What kind of animal or being it is, where `class` does not say so already.",
    "species": "The same as `breed`.",
    "aliases": "Other names under which the character speaks in logs, with commas between them, or as a list.",
    "user": "Names under which the user speaks in logs, with commas between them, or as a list.",
}
"""The keys that the front matter of character.md may have, and what each says."""
NAMES = ("aliases", "user")
"""Those of them that are names, with commas between them or as a list of YAML."""
SECTIONS = {
    "persona": ("persona", "personality", "description", "about", "character", "who"),
    "voice": ("voice", "speech", "style", "linguistic habits", "speaking style", "how it speaks"),
    "appearance": ("appearance", "looks", "physical characteristics", "physical description"),
    "opening": ("opening", "greeting", "first message"),
    "facts": ("facts", "knowledge"),
}
"""The headings under which prose of character.md is read, in any case."""
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+(.*)$")
_RULE = re.compile(r"^\s*(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,}|(?:~\s*){3,}|(?:=\s*){3,})$")

_CAPITAL = "A-Z0-9À-ÖØ-ÞĀΑ-ΩА-Я\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_SENTENCE_ENDS = re.compile(
    rf"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]?[{_CAPITAL}])"
    # the full-width marks end a sentence without a space behind them
    r"|(?:(?<=[。！？])|(?<=[。！？][」』”）]))(?![。！？」』”）\"'])\s*(?=\S)"
)


@dataclass
class Profile:
    """What character.md or a profile says; empty strings where it says nothing."""

    name: str = ""
    class_noun: str = ""
    breed: str = ""
    author: str = ""
    license: str = ""
    opening: str = ""
    persona: str = ""
    voice: str = ""
    appearance: str = ""
    about: str = ""
    """Everything that a card says of the character: what a base with a long context reads."""
    text: str = ""
    """What the file says about the character, line by line: what is understood rests on it."""
    facts: list[str] = field(default_factory=list)
    aliases: tuple[str, ...] = ()
    """Other names under which the character speaks in logs."""
    users: tuple[str, ...] = ()
    """Names under which the user speaks in logs."""
    unread: list[tuple[int, str]] = field(default_factory=list)
    """(line, text) of what stands under headings that are not read."""


def parse_character_md(text: str, file: str, problems: list[Problem]) -> Profile:
    """Front matter between two ``---`` lines, then prose under headings; unknown keys are errors."""
    profile = Profile()
    front, body, offset = _split_front_matter(text, file, problems)
    values = _front_values(front, file, problems)
    profile.name, profile.author = values.get("name", ""), values.get("author", "")
    profile.license, profile.opening = values.get("license", ""), values.get("opening", "")
    profile.persona, profile.voice = values.get("persona", ""), values.get("voice", "")
    profile.appearance = values.get("appearance", "")
    profile.class_noun = values.get("class", "")
    profile.breed = values.get("breed", "") or values.get("species", "")
    profile.aliases, profile.users = _names(values.get("aliases", "")), _names(values.get("user", ""))
    section: str | None = "persona"
    collected: dict[str, list[str]] = {}
    for number, line in enumerate(body.split("\n"), start=offset):
        heading = _HEADING.match(line)
        if not heading:
            if section is not None:
                collected.setdefault(section, []).append(line)
            elif line.strip():
                profile.unread.append((number, line.strip()))
            continue
        title = heading[1].strip("*_ :")
        known = _section(title)
        if known is None and line.startswith("# "):
            # a title line: the character's name; the prose under it is about the character
            profile.name, section = profile.name or re.sub(r"^name\s*[:：]\s*", "", title, flags=re.I), "persona"
        else:
            section = known
            if known is None:
                problems.append(
                    Problem(
                        f"{file}:{number}",
                        "warning",
                        f"has a section that is not read: {title!r}",
                        "use Persona, Voice, Appearance or Opening; facts go into facts.md",
                    )
                )
    told = {key: field_lines([_as_read(line) for line in lines], _OWN_KEYS) for key, lines in collected.items()}
    told["persona"], listed = _without_fields(told.get("persona", []), profile)
    for key in ("persona", "voice", "appearance", "opening"):
        prose = spoken("\n".join(collected.get(key, []))) if key == "opening" else prose_of(told.get(key, []))
        if prose and not getattr(profile, key):
            setattr(profile, key, prose)
            if key == "persona" and listed:
                profile.about = prose_of(dict.fromkeys([*told["persona"], *listed]))
        elif prose:
            # the front matter says it too, and is right
            profile.unread.append((1, prose))
    about = [values.get("persona", ""), values.get("appearance", ""), *collected.get("persona", [])]
    profile.text = "\n".join([*about, *collected.get("appearance", []), *collected.get("facts", [])])
    profile.facts, rest = facts_and_rest("\n".join(collected.get("facts", [])))
    fields = [line for line in (*listed, *told.get("appearance", [])) if line.key]
    profile.facts += [fact for line in fields if (fact := f"{line.key}: {line.value}") not in profile.facts]
    profile.unread += [(1, text) for _, text, _ in rest]
    return profile


def _names(value: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in re.split(r"[,，;]", value) if name.strip())


def _split_front_matter(text: str, file: str, problems: list[Problem]) -> tuple[str, str, int]:
    """Front matter, body, and the line number on which the body starts."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if not lines or lines[first].strip() != "---":
        return "", text, 1
    for i in range(first + 1, len(lines)):
        if lines[i].strip() in ("---", "..."):
            return "\n".join(lines[first + 1 : i]), "\n".join(lines[i + 1 :]), i + 2
    problems.append(Problem(file, "error", "opens with --- but the front matter never ends", "add a second --- line"))
    return "", text, 1


def _front_values(front: str, file: str, problems: list[Problem]) -> dict[str, str]:
    import yaml

    try:
        # BaseLoader: every value stays the text that was written ("No" is a name, not False)
        loaded = yaml.load(front, Loader=yaml.BaseLoader) if front.strip() else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 2}" if mark is not None else file
        problems.append(
            Problem(where, "error", "has front matter that is not YAML", 'write lines of the form key: "value"')
        )
        return {}
    if not isinstance(loaded, dict):
        problems.append(Problem(file, "error", "has front matter without keys", "write lines of the form key: value"))
        return {}
    values: dict[str, str] = {}
    for raw, value in loaded.items():
        key = str(raw).strip().lower()
        if key not in FRONT_KEYS:
            near = difflib.get_close_matches(key, FRONT_KEYS, 1)
            remedy = (
                f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(FRONT_KEYS)}; facts go into facts.md"
            )
            problems.append(Problem(file, "error", f"has the unknown key {str(raw)!r}", remedy))
        elif key in NAMES and isinstance(value, list) and all(isinstance(name, str) for name in value):
            values[key] = ", ".join(" ".join(name.split()) for name in value)
        elif not isinstance(value, str):
            form = (
                "the names behind it and commas between them" if key in NAMES else "plain text behind it, on one line"
            )
            remedy = f"write {key}: with {form}"
            problems.append(Problem(file, "error", f"has a list or table under {key!r}", remedy))
        else:
            values[key] = " ".join(value.split())
    return values


def _section(title: str) -> str | None:
    lowered = title.lower()
    return next((key for key, titles in SECTIONS.items() if lowered in titles), None)


_OWN_KEYS = ("name", "class", "breed", "species", "author", "license", "persona", "voice", "appearance", "opening")
"""Keys of the front matter that are read where they stand above the prose or in it, too."""


def _without_fields(lines: list[FieldLine], profile: Profile) -> tuple[list[FieldLine], list[FieldLine]]:
    """The prose of a persona, and its other fields; what has a place of its own in ``profile`` is put there."""
    prose: list[FieldLine] = []
    traits: list[FieldLine] = []
    listed: list[FieldLine] = []
    for line in lines:
        key = line.key.lower()
        place = {"class": "class_noun", "species": "breed"}.get(key, key)
        if key == "persona":
            prose.append(FieldLine(line.value))
        elif key in _OWN_KEYS and not getattr(profile, place):
            setattr(profile, place, " ".join(line.value.split()))
        elif key == "name":
            profile.unread += [(1, line.words)] if line.value != profile.name else []
        elif key in SECTIONS["persona"]:
            traits.append(line)
        elif not key or folded(key.split()[0]) in {folded(part) for part in Parts.of(profile.name).short}:
            prose.append(FieldLine(line.words))
        else:
            listed.append(line)
    return [*prose, *traits] or listed, listed


def _as_read(line: str) -> tuple[str, tuple[str, str] | None]:
    """A line without Markdown marks and bullet, and its key and value."""
    bullet = _BULLET.match(line)
    return plain(bullet[1] if bullet else line), next(iter(key_values(line)), None)


def spoken(text: str) -> str:
    """What somebody says, on one line and to the letter: *actions* keep their asterisks, as in dialogues.

    Lines that are nothing but a rule ("***", "---") separate and say nothing.
    """
    return " ".join(" ".join(line for line in text.split("\n") if not _RULE.match(line)).split())


def plain(line: str) -> str:
    """A line without Markdown emphasis."""
    return re.sub(r"(\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`)", "", line).strip()


def facts_and_rest(text: str) -> tuple[list[str], list[tuple[int, str, str]]]:
    """The facts of a list, each once, and what of it is no fact: (line, text, reason).

    One fact a bullet, continued on indented lines; without any bullet, one fact a line.
    """
    rest: list[tuple[int, str, str]] = []
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip() and not _HEADING.match(line)]
    has_bullets = any(_BULLET.match(line) for _, line in lines)
    facts: list[tuple[int, str]] = []
    for number, line in lines:
        bullet = _BULLET.match(line)
        if bullet or not has_bullets:
            facts.append((number, plain(bullet[1] if bullet else line)))
        elif facts and line[0] in " \t":
            facts[-1] = (facts[-1][0], f"{facts[-1][1]} {plain(line)}")
        else:
            rest.append((number, line.strip(), "is no item of the list"))
    kept: dict[str, None] = {}
    for number, fact in facts:
        if fact in kept:
            rest.append((number, fact, "is said twice"))
        elif fact:
            kept[fact] = None
    return list(kept), rest


def key_values(text: str) -> list[tuple[str, str]]:
    """ "* **Breed (Apparent):** Shiba Inu" lines of a profile as ("Breed", "Shiba Inu")."""
    pairs: list[tuple[str, str]] = []
    for line in text.split("\n"):
        bullet = _BULLET.match(line)
        words = plain(bullet[1] if bullet else line.lstrip("# "))
        match = re.match(r"^([^\W\d_][\w /&'-]{0,40}?)(?:\s*\([^)]*\))?\s*(?::\s+|：\s*)(\S.*)$", words)
        if match and len(match[1].split()) <= 4:
            pairs.append((match[1].strip(), match[2].strip()))
    return pairs


def sentences(text: str) -> list[str]:
    """Sentences of running text; a full stop behind a title or an initial ("Dr.", "J. R.") does not end one."""
    cut: list[str] = []
    start = 0
    for end in _SENTENCE_ENDS.finditer(text):
        if not ends_no_sentence(text, end.start()):
            # a closing quote is matched with the space behind it
            cut.append(text[start : end.end()])
            start = end.end()
    return [part.strip() for part in (*cut, text[start:]) if part.strip()]
