"""Chats of other front ends, each recognised by its own keys.

Layouts after what the programs themselves write: Agnai (``messages`` with ``msg``), RisuAI (``risuChat`` and
``risuAllChats``), saves of KoboldAI Lite and KoboldCpp (``actions`` with marks for input and output), the web UI for
text generation (``data_visible``), dumps of Character.AI (``histories``), and Pygmalion's list of lines (``chat``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from charforge.character.character import Dialogue, Voice
from charforge.character.lines import logged
from charforge.character.notes import Notes
from charforge.character.readers.chat_logs import said_by
from charforge.character.readers.documents import Document
from charforge.character.readers.messages import Conversations
from charforge.character.readers.text_logs import read_text_log
from charforge.character.speakers import Names

Message = tuple[str, Voice, str, str, str | None]
_KOBOLD_INPUT, _KOBOLD_OUTPUT = "{{[INPUT]}}", "{{[OUTPUT]}}"
_KOBOLD_MARKS = re.compile(r"(\{\{\[(?:INPUT|OUTPUT|SYSTEM)(?:_END)?\]\}\})")


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def is_agnai_chat(values: Sequence[Any]) -> bool:
    """``{"messages": [{"msg": ..., "userId" or "characterId": ...}]}``"""
    return any(
        isinstance(value, dict) and any(isinstance(m, dict) and "msg" in m for m in _each(value.get("messages")))
        for value in values
    )


def read_agnai_chat(found: Document, names: Names, notes: Notes) -> Conversations:
    """A message with a ``userId`` is the user's; ``handle`` or ``name`` says who another one is."""
    dialogues: list[Dialogue] = []
    for where, value in found.objects(notes):
        messages: list[Message] = []
        for number, item in enumerate(_each(value.get("messages")), start=1):
            text = item.get("msg") if isinstance(item, dict) else None
            if not isinstance(text, str):
                notes.pass_over(found.file, where or str(number), "turn", str(item), "has no words")
                continue
            side: Voice = "user" if item.get("userId") else "character"
            called = next((item[key] for key in ("name", "handle") if isinstance(item.get(key), str)), "")
            # exports number users instead of naming them
            called = called if side == "character" and not re.fullmatch(r"(?:You|User \d+|Bot)?", called) else ""
            messages.append((found.place(where or str(number)), side, called, text, None))
        dialogues += logged(said_by(messages, names, notes), names, notes)
    return Conversations(tuple(dialogues))


def is_risu_chat(values: Sequence[Any]) -> bool:
    """``{"type": "risuChat", "data": {"message": [...]}}`` or ``risuAllChats``."""
    return any(isinstance(value, dict) and value.get("type") in ("risuChat", "risuAllChats") for value in values)


def read_risu_chat(found: Document, names: Names, notes: Notes) -> Conversations:
    """``role`` is ``user`` or ``char``, ``data`` the words; a chat may carry entries of a lorebook."""
    dialogues: list[Dialogue] = []
    lore: list[Any] = []
    for where, value in found.objects(notes):
        chats = value.get("data")
        for chat in chats if isinstance(chats, list) else [chats]:
            messages: list[Message] = []
            if not isinstance(chat, dict):
                notes.pass_over(found.file, where, "turn", str(chat), "is no chat")
                continue
            for number, item in enumerate(_each(chat.get("message")), start=1):
                text = item.get("data") if isinstance(item, dict) else None
                if not isinstance(text, str):
                    notes.pass_over(found.file, str(number), "turn", str(item), "has no words")
                    continue
                side: Voice = "user" if item.get("role") == "user" else "character"
                called = item["name"] if isinstance(item.get("name"), str) else ""
                messages.append((found.place(str(number)), side, called, text, None))
            dialogues += logged(said_by(messages, names, notes), names, notes)
            lore += list(_each(chat.get("localLore")))
            if isinstance(chat.get("note"), str) and chat["note"].strip():
                notes.pass_over(found.file, "note", "field", chat["note"], "a note to the model, not dialogue")
    return Conversations(tuple(dialogues), book={"type": "risu", "data": lore} if lore else None)


def is_kobold_save(values: Sequence[Any]) -> bool:
    """``{"gamestarted": ..., "prompt": ..., "actions": [...]}``"""
    return any(
        isinstance(value, dict)
        and isinstance(value.get("actions"), list)
        and bool({"gamestarted", "savedsettings", "prompt", "memory"} & set(value))
        for value in values
    )


def read_kobold_save(found: Document, names: Names, notes: Notes) -> Conversations:
    """Instruct mode marks input and output; chat mode writes "Name: words" into one running text."""
    dialogues: list[Dialogue] = []
    told: list[tuple[str, str]] = []
    book: Any = None
    for _, value in found.objects(notes):
        settings = value["savedsettings"] if isinstance(value.get("savedsettings"), dict) else {}
        story = [part for part in (value.get("prompt"), *_each(value.get("actions"))) if isinstance(part, str)]
        running = "".join(story)
        if _KOBOLD_INPUT in running or _KOBOLD_OUTPUT in running:
            dialogues += logged(said_by(_kobold_turns(running, found, notes), names, notes), names, notes)
        else:
            user = settings.get("chatname")
            known = replace(names, users=names.users | Names.of("", (), [str(user or "You")]).users)
            dialogues += read_text_log(running, found.file, known, notes, log=True)
        if isinstance(value.get("memory"), str) and value["memory"].strip():
            told.append((found.place("memory"), value["memory"]))
        for key in ("authorsnote", "anotetemplate"):
            note = value.get(key)
            if isinstance(note, str) and note.replace("<|>", "").strip():
                notes.pass_over(found.file, key, "field", note, "a note to the model, not dialogue")
        if _each(value.get("worldinfo")):
            book = {"entries": value["worldinfo"]}
    return Conversations(tuple(dialogues), tuple(told), book)


def _kobold_turns(running: str, found: Document, notes: Notes) -> list[Message]:
    """Words between the marks: what follows the mark of input is the user's, all else the character's."""
    messages: list[Message] = []
    side: Voice | None = "character"
    for number, part in enumerate(_KOBOLD_MARKS.split(running)):
        if part == _KOBOLD_INPUT:
            side = "user"
        elif part == _KOBOLD_OUTPUT:
            side = "character"
        elif _KOBOLD_MARKS.fullmatch(part):
            side = None
        elif part.strip():
            if side is None:
                notes.pass_over(found.file, f"part {number}", "turn", part, "a system text of the save")
            else:
                messages.append((found.place(f"part {number}"), side, "", part.strip(), None))
    return messages


def is_webui_chat(values: Sequence[Any]) -> bool:
    """``{"visible": [[question, reply], ...]}`` or ``data_visible``"""
    return any(
        isinstance(value, dict) and any(isinstance(value.get(key), list) for key in ("visible", "data_visible"))
        for value in values
    )


def read_webui_chat(found: Document, names: Names, notes: Notes) -> Conversations:
    """Pairs of question and reply; the mark that begins a chat without a question is left out."""
    dialogues: list[Dialogue] = []
    for where, value in found.objects(notes):
        pairs: list[Any] = next((value[k] for k in ("visible", "data_visible") if isinstance(value.get(k), list)), [])
        messages: list[Message] = []
        for number, pair in enumerate(pairs, start=1):
            if not isinstance(pair, list) or len(pair) != 2:
                notes.pass_over(found.file, where or str(number), "turn", str(pair), "is no question with its reply")
                continue
            place = found.place(str(number))
            if isinstance(pair[0], str) and pair[0].strip() and pair[0] != "<|BEGIN-VISIBLE-CHAT|>":
                messages.append((place, "user", "", pair[0], None))
            if isinstance(pair[1], str):
                messages.append((place, "character", "", pair[1], None))
        dialogues += logged(said_by(messages, names, notes), names, notes)
    return Conversations(tuple(dialogues))


def is_characterai_dump(values: Sequence[Any]) -> bool:
    """``{"histories": {"histories": [{"msgs": [...]}]}}``"""
    return any(isinstance(value, dict) and isinstance(value.get("histories"), dict | list) for value in values)


def read_characterai_dump(found: Document, names: Names, notes: Notes) -> Conversations:
    """Each history is a log; ``src`` says who speaks."""
    dialogues: list[Dialogue] = []
    for _, value in found.objects(notes):
        histories = value.get("histories")
        histories = histories.get("histories") if isinstance(histories, dict) else histories
        for index, history in enumerate(_each(histories), start=1):
            messages: list[Message] = []
            for number, item in enumerate(_each(history.get("msgs") if isinstance(history, dict) else None), start=1):
                text = item.get("text") if isinstance(item, dict) else None
                if not isinstance(text, str):
                    notes.pass_over(found.file, f"history {index}", "turn", str(item), "has no words")
                    continue
                source = item["src"] if isinstance(item.get("src"), dict) else {}
                side: Voice = "user" if source.get("is_human") else "character"
                called = source["name"] if isinstance(source.get("name"), str) else ""
                messages.append((found.place(f"history {index} message {number}"), side, called, text, None))
            dialogues += logged(said_by(messages, names, notes), names, notes)
    return Conversations(tuple(dialogues))


def is_list_of_lines(values: Sequence[Any]) -> bool:
    """``{"chat": ["You: ...", "Name: ..."]}``"""
    return any(
        isinstance(value, dict) and any(isinstance(line, str) for line in _each(value.get("chat"))) for value in values
    )


def read_list_of_lines(found: Document, names: Names, notes: Notes) -> Conversations:
    """Lines as in a text log."""
    dialogues: list[Dialogue] = []
    for _, value in found.objects(notes):
        text = "\n".join(line for line in _each(value.get("chat")) if isinstance(line, str))
        dialogues += read_text_log(text, found.file, names, notes, log=True)
    return Conversations(tuple(dialogues))
