"""Conversations as one text with a chat template's marks in it: ChatML, and those of Llama, Mistral, Gemma, Zephyr."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from charforge.character.notes import Notes
from charforge.character.readers.datasets import ANSWERS
from charforge.character.readers.documents import Document
from charforge.character.readers.messages import Conversations, is_message, read_records
from charforge.character.speakers import Names

_HEAD = re.compile(
    r"<\|im_start\|>[ \t]*(?P<chatml>[^\n<]{1,60})\n"
    r"|<\|start_header_id\|>[ \t]*(?P<llama>[^\n<]{1,60})<\|end_header_id\|>\s*"
    r"|<start_of_turn>[ \t]*(?P<gemma>[^\n<]{1,60})\n"
    r"|<\|(?P<zephyr>system|user|assistant)\|>\s*"
    r"|(?P<mistral>\[/?INST\])"
)
"""Where a turn begins, and whose it is."""
_ENDS = {
    "chatml": re.compile(r"<\|im_end\|>"),
    "llama": re.compile(r"<\|eot_id\|>|<\|end_of_text\|>"),
    "gemma": re.compile(r"<end_of_turn>"),
    "zephyr": re.compile(r"</s>|<\|end\|>"),
    "mistral": re.compile(r"</s>"),
}
_AROUND = re.compile(r"</?s>|<[be]os>|<\|(?:begin_of_text|end_of_text|endoftext)\|>")
"""Marks of the whole text, which say nothing of a turn."""
_ROLES = {"[INST]": "user", "[/INST]": "assistant"}
_TOLD, _TOLD_ENDS = "<<SYS>>", "<</SYS>>"
"""Llama 2 has its system text inside the first turn of the user."""
_REFUSED = "rejected"
"""The field of a pair of answers that is not to be learned."""


class Turns(NamedTuple):
    """The turns of a text as messages, and what stands outside them."""

    messages: list[dict[str, str]]
    outside: list[str]


def has_template(values: Sequence[Any]) -> bool:
    """Whether a record is a text, or has one, that begins turns with the marks of a template."""
    return any(_text(value) for value in values)


def read_templates(found: Document, names: Names, notes: Notes) -> Conversations:
    """A dialogue a record: each turn from its mark to its end, or to the next."""
    records = []
    for where, value in found.records:
        messages, outside = turns_of(_text(value))
        for words in outside:
            notes.pass_over(found.file, where, "turn", words, "stands outside the marks of turns")
        records.append((where, {"messages": messages} if messages else value))
    return read_records(Document(found.file, records, found.torn), names, notes, strict=False)


def parts_of(text: str) -> list[tuple[str, str]]:
    """The conversations of a plain text that begins with a mark: (line, its text), a new one where a system text stands
    behind other turns. None of a text that begins otherwise."""
    heads = list(_HEAD.finditer(text))
    if not heads or _AROUND.sub("", text[: heads[0].start()]).strip() or not _is_marked(text):
        return []
    starts = [0]
    for before, head in pairwise(heads):
        if "system" in _roles(head) and "system" not in _roles(before):
            starts.append(head.start())
    ends = [*starts[1:], len(text)]
    return [(str(text.count("\n", 0, start) + 1), text[start:end]) for start, end in zip(starts, ends, strict=True)]


def _roles(head: re.Match[str]) -> list[str]:
    return [role.strip() for role in head.groups() if role]


def turns_of(text: str) -> Turns:
    """A last turn without words is no turn: there a model was to go on."""
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    messages: list[dict[str, str]] = []
    outside = [text[: heads[0].start()] if heads else text]
    for head, end in zip(heads, ends, strict=True):
        kind = next(kind for kind in _ENDS if head[kind])
        said, *rest = _ENDS[kind].split(text[head.end() : end].strip())
        if said.startswith(_TOLD) and _TOLD_ENDS in said:
            told, _, said = said.removeprefix(_TOLD).partition(_TOLD_ENDS)
            messages.append({"role": "system", "content": told.strip()})
        role = head[kind].strip()
        messages.append({"role": _ROLES.get(role, role), "content": said.strip()})
        outside += rest
    if messages and not messages[-1]["content"]:
        messages.pop()
    return Turns(messages, [words for one in outside if (words := _AROUND.sub("", one).strip())])


def _is_marked(text: str) -> bool:
    head = _HEAD.search(text)
    if head is None or not (head["zephyr"] or head["mistral"]):
        return head is not None
    # these are short: in the middle of a sentence they are words like others
    begins = not _AROUND.sub("", text[: head.start()]).strip()
    return begins and (bool(head["zephyr"]) or (head[0] == "[INST]" and "[/INST]" in text))


def _text(value: Any) -> str:
    """The conversation of a record: its fields with marks, and an answer beside them that has none. Empty where it has
    no marks."""
    if isinstance(value, str):
        return value if _is_marked(value) else ""
    if not isinstance(value, dict) or is_message(value):
        return ""
    marked = [one for key, one in value.items() if key != _REFUSED and isinstance(one, str) and _is_marked(one)]
    # some have the whole beside its parts
    parts = [one for one in marked if not any(one is not other and one.strip() in other for other in marked)]
    text = "".join(parts)
    answer = next((value[key] for key in ANSWERS if isinstance(value.get(key), str)), "")
    if not text or not answer or answer in marked:
        return text
    last = list(_HEAD.finditer(text))[-1]
    if not text[last.end() :].strip():
        return text + answer
    told = turns_of(text).messages
    return text if told and told[-1]["role"] in ("assistant", "model") else f"{text}[/INST]{answer}"
