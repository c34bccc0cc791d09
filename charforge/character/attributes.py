"""Attribute lists in W++ -> lines "Key: value", which everything else reads.

W++ is written in many ways: ``[Character("Wren"){Likes("tea" + "rain")Age("9")}]`` on one line or on many, with
braces or brackets or neither, with straight quotes, curly ones or none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

UNREAD = "no attribute that can be read"
"""Why a piece of a list is passed over."""
REMEDY = 'write it as Likes("tea" + "rain")'
_KEY = r"(?P<key>[^\W\d_](?:[\w /&'’-]{0,40}?[\w'’])?)"
_ITEM = r"(?:\"[^\"]*\"|“[^“”]*”|(?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w))*')"
_BETWEEN = r"\s*(?:[+,;/&|]\s*)*"
_QUOTED = rf"(?P<quoted>{_ITEM}(?:{_BETWEEN}{_ITEM})*)"
_ATTRIBUTE = re.compile(
    rf"(?<![^\W\d_]){_KEY}(?:\s{{0,4}}(?:[:=]\s{{0,4}})?[(\[{{]\s*(?:\+\s*)?{_QUOTED}\s*(?:[+,;]\s*)?[)\]}}]"
    # without quotes a space before the bracket is prose: "Wren (a robot)"
    r"|\((?P<plain>(?:[^()\n]|\([^()\n]*\)){1,600})\))"
)
_SEPARATORS = re.compile(r"[\s,;+{}\[\]()]*")
_JOINED_LINE = re.compile(
    rf"^[ \t]*(?:[\[{{(][ \t]*)*{_KEY}[ \t]*[:=][ \t]*(?P<items>[^+.!?\n]+(?:\+[^+.!?\n]+)+)$", re.MULTILINE
)
"""A line of its own without brackets around the values: Likes = tea + rain."""
_OPENS, _CLOSES = "[{(+,; \t\n", ")]}+,; \t\n"
_LEFT_OVER = re.compile(r"[\"“”]\s*\+|\+\s*[\"“”]|\w\s*[(\[{]\s*[\"“]|^[\w ]+\($")
_BULLET = re.compile(r"(?:^|\n)[ \t]*[-*•][ \t]*$")
_PLURAL = re.compile(r"(?:e?s|ies)")
_HEAD = ("character", "char", "chara", "name")
_SAYS = re.compile(r"\b(?:says?|said|asks?|asked|whispers?|mutters?|shouts?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Attributes:
    """A text with its attribute lists as lines "Key: value", and the pieces of such lists that could not be read."""

    text: str
    unread: tuple[str, ...] = ()
    is_list: bool = False
    """Whether anything in it was an attribute of W++."""


def attributes_as_lines(text: str) -> Attributes:
    """``text`` with every attribute of W++ on a line of its own; to the letter where there is none."""
    found = _attributes(text)
    if not found:
        return Attributes(_JOINED_LINE.sub(_joined_line, text))
    lines: list[str] = []
    unread: list[str] = []
    end = 0
    for number, match in enumerate(found):
        _keep(text[end : match.start()], lines, unread, after=number > 0, before=True)
        key = "Name" if number == 0 and match["key"].lower() in _HEAD else match["key"].strip()
        value = re.sub(r"([.!?]), ", r"\1 ", ", ".join(_items(match)))
        lines += [f"{key}: {value}"] if value else []
        end = match.end()
    _keep(text[end:], lines, unread, after=True, before=False)
    return Attributes(_JOINED_LINE.sub(_joined_line, "\n".join(lines)), tuple(unread), is_list=True)


def _keep(piece: str, lines: list[str], unread: list[str], after: bool, before: bool) -> None:
    """Put what stands between attributes among the lines, without the brackets of the list; its remains are unread."""
    piece = re.sub(r"\bW\+\+", "", piece)
    piece = piece.lstrip(_CLOSES) if after else piece
    piece = _BULLET.sub("", piece).rstrip(_OPENS) if before else piece
    if not piece.strip(_OPENS + _CLOSES):
        return
    for line in re.split(r"\n|(?<=[}\]])[ \t]+", piece):
        (unread if _LEFT_OVER.search(line.strip()) else lines).append(line.strip())


def _attributes(text: str) -> Sequence[re.Match[str]]:
    """The attributes of a text; none where only a sentence has something in quotes and brackets."""
    matches = [
        match
        for match in _ATTRIBUTE.finditer(text)
        if not _SAYS.search(match["key"]) and not _PLURAL.fullmatch(match["plain"] or "")
    ]
    lists: list[list[re.Match[str]]] = []
    for match in matches:
        if lists and _goes_on(text[lists[-1][-1].end() : match.start()], match):
            lists[-1].append(match)
        elif _begins_list(text, match):
            lists.append([match])
    headed = any(match["quoted"] and match["key"].lower() in _HEAD[:3] for match in matches)
    # where a list is certain, a broken piece of it parts the rest: what is quoted is an attribute all the same
    certain = headed or any(len(run) > 1 for run in lists)
    return [
        match
        for run in lists
        if len(run) > 1 or _is_whole_line(text, run[0]) or (certain and run[0]["quoted"])
        for match in run
    ]


def _begins_list(text: str, match: re.Match[str]) -> bool:
    """Whether a list may begin here: behind the start of a line, a bracket, or as one sure word."""
    before = text[: match.start()].rstrip(" \t")
    return not before or before[-1] in "\n[{(]})*-•" or _is_one_word(match)


def _goes_on(between: str, match: re.Match[str]) -> bool:
    """Whether an attribute belongs to the list before it: "friend(s) and enemy(ies)" is none."""
    if not _SEPARATORS.fullmatch(between):
        return False
    apart = not between or re.search(r"[^ \t]", between) is not None
    return apart or match["key"][0].isupper() or _is_one_word(match)


def _is_one_word(match: re.Match[str]) -> bool:
    """Whether an attribute with quotes is surely one in the middle of a line: Likes("tea"), Age: ("9")."""
    key = match["key"]
    return match["quoted"] is not None and " " not in key and (key[0].isupper() or match[0][len(key)] == "(")


def _is_whole_line(text: str, match: re.Match[str]) -> bool:
    """Whether an attribute is all that stands on its lines; without quotes a plus sign must tell that it is one."""
    before = text[: match.start()].rpartition("\n")[2]
    behind = text[match.end() :].partition("\n")[0]
    whole = not before.strip("[{( \t*-•") and not behind.strip(")]}{,;+ \t")
    return whole and (match["quoted"] is not None or "+" in match["plain"])


def _items(match: re.Match[str]) -> list[str]:
    if match["quoted"] is not None:
        items = [item[1:-1] for item in re.findall(_ITEM, match["quoted"])]
    else:
        items = [item.strip().strip("\"“”'") for item in re.split(r"\s*\+\s*|(?<=[\"”]),\s*", match["plain"])]
    return [" ".join(item.split()).rstrip(",;") for item in items if item.strip()]


def _joined_line(match: re.Match[str]) -> str:
    items = [item.strip().strip('"“”') for item in match["items"].rstrip("]}) \t").split("+")]
    return f"{match['key'].strip()}: {', '.join(item for item in items if item)}"
