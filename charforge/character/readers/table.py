"""Every format of conversations that is read: its name, how it is recognised by its own keys, its reader.

A file is read by the first row that recognises it. Cards and lorebooks have tables of their own in ``cards``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from charforge.character.notes import Notes
from charforge.character.readers import chat_logs, datasets, messages, other_logs, templates
from charforge.character.readers.documents import Document
from charforge.character.readers.messages import Conversations
from charforge.character.speakers import Names


@dataclass(frozen=True)
class Format:
    """One format. ``recognised`` takes the values of a file's records; ``keys`` says by what, in words, and ``about``
    what a person should know.
    """

    name: str
    recognised: Callable[[Sequence[Any]], bool]
    read: Callable[[Document, Names, Notes], Conversations]
    keys: str
    about: str = ""


FORMATS = (
    Format(
        "charforge dialogues", messages.has_own_turns, messages.read_records, "`turns`",
        'One dialogue a line: `{"turns": [{"role": "user", "text": "..."}, {"role": "character", "text": "..."}]}`. '
        "A turn may carry `image`, the name of the picture sent with it.",
    ),
    Format(
        "SillyTavern chat", chat_logs.is_chat_log, chat_logs.read_chat_log, "`mes`",
        "The chosen swipe. Lines hidden from the prompt are dialogue; notes of the front end are not.",
    ),
    Format(
        "RisuAI chat", other_logs.is_risu_chat, other_logs.read_risu_chat, "`type: risuChat` or `risuAllChats`",
        "Its local lorebook is read too.",
    ),
    Format("Agnai chat", other_logs.is_agnai_chat, other_logs.read_agnai_chat, "`messages` with `msg`"),
    Format(
        "OpenAI messages", messages.has_messages, messages.read_records, "`messages` with `role`",
        "Calls of tools are passed over. A system text is the persona where you wrote none; otherwise its sentences "
        "that begin with the name are facts.",
    ),
    Format("ShareGPT", datasets.is_sharegpt, datasets.read_sharegpt, "`conversations` with `from` or `role`"),
    Format(
        "KoboldAI save", other_logs.is_kobold_save, other_logs.read_kobold_save, "`actions`",
        "Of KoboldAI Lite and KoboldCpp, instruct and chat mode; memory and world info are read too.",
    ),
    Format(
        "text-generation-webui chat", other_logs.is_webui_chat, other_logs.read_webui_chat,
        "`visible` or `data_visible`",
    ),
    Format("Character.AI dump", other_logs.is_characterai_dump, other_logs.read_characterai_dump, "`histories`"),
    Format(
        "list of lines", other_logs.is_list_of_lines, other_logs.read_list_of_lines, "`chat` with lines of text",
        "As Pygmalion's early programs wrote it: `You: ...`, `NAME: ...`.",
    ),
    Format(
        "text of a chat template", templates.has_template, templates.read_templates,
        "a text with `<|im_start|>`, `<|start_header_id|>`, `<start_of_turn>`, `<|user|>` or `[INST]`",
        "In any field, such as `text`: ChatML and the templates of Llama, Gemma, Zephyr and Mistral.",
    ),
    Format(
        "Alpaca", datasets.is_alpaca, datasets.read_alpaca, "`instruction` and `output`",
        "Also prompt and completion; `history` holds the exchanges before.",
    ),
    Format("list of messages", messages.has_lists_of_messages, messages.read_lists, "lists of messages without a key"),
)  # fmt: skip
_WHOLE_FILES = frozenset({
    "RisuAI chat", "Agnai chat", "KoboldAI save", "text-generation-webui chat", "Character.AI dump", "list of lines",
})  # fmt: skip
"""Formats of one JSON value: lines that are no JSON are none of theirs. Other readers tell torn lines themselves."""


def format_of(values: Sequence[Any]) -> Format | None:
    """The format of a file's records, or None."""
    return next((row for row in FORMATS if row.recognised(values)), None)


def read_conversations(found: Document, names: Names, notes: Notes) -> Conversations:
    """The conversations of a file in whatever format they are."""
    known = format_of(found.values)
    if known is None:
        return messages.read_records(found, names, notes)
    for torn in found.torn if known.name in _WHOLE_FILES else ():
        notes.warn(found.place(str(torn.number)), f"is not JSON ({torn.reason}): the rest is read", "export it again")
        notes.pass_over(found.file, str(torn.number), "turn", torn.text, "is not JSON")
    return known.read(found, names, notes)
