"""Chat logs of SillyTavern and programs that write its format: a header, then one message a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from charforge.character.character import Voice
from charforge.character.lines import Line, logged
from charforge.character.name_parts import folded
from charforge.character.notes import Notes
from charforge.character.picture_names import image_name, is_elsewhere
from charforge.character.readers.documents import Document
from charforge.character.readers.messages import Conversations
from charforge.character.speakers import Names

_HEADER_KEYS = {"user_name", "character_name", "chat_metadata"}
_NARRATORS = frozenset({"narrator"})
_FRONT_END_NOTES = frozenset({
    "help", "welcome", "group", "empty", "generic", "comment", "slash_commands", "formatting", "hotkeys", "macros",
    "assistant_note", "assistant_message", "welcome_prompt", "hint",
})  # fmt: skip
_FRONT_END_NAMES = frozenset({"system", "sillytavern system", "note"})


def is_chat_log(values: Sequence[Any]) -> bool:
    """Whether records are messages of a chat log: words under ``mes``."""
    return any(
        isinstance(value, dict) and "mes" in value and ("is_user" in value or "name" in value) for value in values
    )


def read_chat_log(found: Document, names: Names, notes: Notes) -> Conversations:
    """The dialogues of one log. Lines hidden from the prompt are dialogue; notes of the front end are passed over."""
    for torn in found.torn:
        where = str(torn.number)
        notes.warn(found.place(where), f"is torn ({torn.reason}): the rest of the log is read", "export the chat again")
        notes.pass_over(found.file, where, "turn", torn.text, "is not JSON")
    messages: list[tuple[str, dict[str, Any], str]] = []
    users = {folded(str(v["user_name"])) for v in found.values if isinstance(v, dict) and v.get("user_name")}
    for where, record in found.records:
        if not isinstance(record, dict) or not ("mes" in record or _HEADER_KEYS & set(record)):
            remedy = "look whether words are lost, or export the chat again"
            notes.warn(found.place(where), "is no message of a chat log: the rest of the log is read", remedy)
            notes.pass_over(found.file, where, "turn", str(record), "is no message of a chat log")
        elif "mes" in record:
            text = _chosen(record, found.file, where, notes)
            if not _is_note(record):
                messages.append((where, record, text))
            elif text.strip():
                notes.pass_over(found.file, where, "turn", text, "a note of the front end")
    lines = said_by(
        [
            (found.place(where), _voice(record, users), _name(record), text, _image(record, found.place(where), notes))
            for where, record, text in messages
        ],
        names,
        notes,
    )
    hidden = sum(bool(record.get("is_system")) for _, record, text in messages if text.strip())
    if hidden:
        notes.change(found.file, "", "turn", f"{hidden} lines are hidden from the prompt there, and are dialogue")
    return Conversations(tuple(logged(lines, names, notes)))


def said_by(messages: Sequence[tuple[str, Voice, str, str, str | None]], names: Names, notes: Notes) -> list[Line]:
    """(place, side, name, text, picture) of a log's messages -> lines, with everybody who is not the character told.

    ``side`` is what the log itself says: the user, or not. A name that both sides use says nothing. Where nobody is
    called like the character and only one answers, that one is the character under another name.
    """
    users = {folded(name) for _, side, name, _, _ in messages if side == "user" and name}
    answering = Counter(
        name
        for _, side, name, text, _ in messages
        if side == "character" and name and text and folded(name) not in users
    )
    known = {name for name in answering if names.role_of(name) == "character"}
    if not known and len(answering) == 1:
        known = set(answering)
        other = next(iter(answering))
        if messages and names.name:
            notes.warn(
                messages[0][0].rpartition(":")[0],
                f"the one who answers is called {other!r}: taken for {names.name}",
                f"if that is somebody else, remove the log; else write aliases: {other} into character.md",
            )
    strangers = {name: count for name, count in answering.items() if name not in known}
    if strangers and messages:
        _tell_strangers(messages[0][0].rpartition(":")[0], strangers, bool(known), names, notes)
    lines = []
    for place, side, name, text, image in messages:
        voice: Voice = side
        if side == "character" and name in strangers:
            voice = "other"
        if text.strip():
            notes.hear(voice, name or (names.name if voice == "character" else "the user"))
        # a narrator's words are no speech: they stand without a name
        lines.append(Line(place, voice, "" if side == "other" else name, text, image))
    return lines


def _tell_strangers(file: str, strangers: dict[str, int], known: bool, names: Names, notes: Notes) -> None:
    told = ", ".join(f"{name} ({count} lines)" for name, count in sorted(strangers.items(), key=lambda s: -s[1])[:5])
    if known:
        notes.warn(
            file,
            f"others speak in it too: {told}; they are context, and nothing of theirs is learned",
            f"if one of them is {names.name} under another name, write aliases: NAME into character.md",
        )
    else:
        notes.warn(
            file,
            f"nobody in it is called {names.name}: {told}",
            "write the name that the character has there into character.md (aliases: NAME)",
        )


def _chosen(record: dict[str, Any], file: str, where: str, notes: Notes) -> str:
    """The words of a message: of several versions the one that was chosen; the others go into the ledger."""
    mes = record.get("mes")
    if isinstance(mes, dict):
        mes = mes.get("message")
    swipes = record["swipes"] if isinstance(record.get("swipes"), list) else []
    versions = [swipe.get("message") if isinstance(swipe, dict) else swipe for swipe in swipes]
    chosen = record.get("swipe_id")
    if not (isinstance(mes, str) and mes.strip()):
        picked = versions[chosen] if isinstance(chosen, int) and 0 <= chosen < len(versions) else None
        mes = picked if isinstance(picked, str) else ""
    for version in versions:
        if isinstance(version, str) and version.strip() and version != mes:
            notes.pass_over(file, where, "turn", version, "a swipe that was not chosen")
    extra = record["extra"] if isinstance(record.get("extra"), dict) else {}
    if isinstance(extra.get("reasoning"), str) and extra["reasoning"].strip():
        notes.pass_over(file, where, "field", extra["reasoning"], "reasoning is not said")
    return str(mes)


def _kind(record: dict[str, Any]) -> str:
    extra = record.get("extra")
    kind = extra.get("type") if isinstance(extra, dict) else None
    return kind if isinstance(kind, str) else ""


def _is_note(record: dict[str, Any]) -> bool:
    """Whether the front end says it: help texts and comments. Who hides lines from the prompt marks them alike."""
    kind = _kind(record)
    if kind in _NARRATORS:
        return False
    named = str(record.get("name", "")).strip().casefold() in _FRONT_END_NAMES
    return kind in _FRONT_END_NOTES or (bool(record.get("is_system")) and named)


def _voice(record: dict[str, Any], users: set[str]) -> Voice:
    if _kind(record) in _NARRATORS:
        return "other"
    # some programs leave the mark out: then the header says who the user is
    said = record.get("is_user", folded(_name(record)) in users)
    return "user" if said else "character"


def _name(record: dict[str, Any]) -> str:
    name = record.get("name")
    return name.strip() if isinstance(name, str) else ""


def _image(record: dict[str, Any], place: str, notes: Notes) -> str | None:
    """The picture sent with a message, by its file's name."""
    extra = record["extra"] if isinstance(record.get("extra"), dict) else {}
    media = extra["media"] if isinstance(extra.get("media"), list) else []
    for value in (extra.get("image"), *(item.get("url") for item in media if isinstance(item, dict))):
        if isinstance(value, str) and value.strip():
            if is_elsewhere(value):
                file, _, where = place.rpartition(":")
                notes.pass_over(
                    file, where, "picture", value[:60], "lies on the web or in the log", "save it into images/"
                )
                continue
            return image_name(value)
    return None
