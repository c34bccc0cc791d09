"""Conversations with the marks of a chat template in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from folders import make_folder
from test_formats import PIP, TALK, read, turns

from charforge.character.notes import Notes
from charforge.character.read import read_folder
from charforge.character.readers.documents import document
from charforge.character.readers.table import format_of, read_conversations
from charforge.character.readers.templates import parts_of

TEA = "<|im_start|>user\nTea?<|im_end|>\n<|im_start|>assistant\n"
LLAMA = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"


@pytest.mark.parametrize(
    "record",
    [
        TEA + "Always, beep.<|im_end|>",
        {"text": TEA + "Always, beep."},
        {"content": "<|im_start|>user\nTea?<|im_end|><|im_start|>Pip\nAlways, beep.<|im_end|>", "id": "7"},
        {"prompt": TEA, "completion": "Always, beep."},
        {"prompt": TEA.rpartition("<|im_start|>")[0], "completion": "Always, beep."},
        {"prompt": TEA.rpartition("<|im_start|>")[0], "chosen": "<|im_start|>assistant\nAlways, beep.<|im_end|>",
         "rejected": "<|im_start|>assistant\nRum!<|im_end|>"},
        {"prompt": TEA, "completion": "Always, beep.", "text": TEA + "Always, beep.<|im_end|>\n"},
        {"text": "<|begin_of_text|>" + LLAMA.format("user", "Tea?") + LLAMA.format("assistant", "Always, beep.")},
        {"text": "<s>[INST] Tea? [/INST] Always, beep. </s>"},
        {"instruction": "[INST] Tea? [/INST]", "output": "Always, beep."},
        {"text": "<bos><start_of_turn>user\nTea?<end_of_turn>\n<start_of_turn>model\nAlways, beep.<end_of_turn>\n"},
        {"text": "<|user|>\nTea?</s>\n<|assistant|>\nAlways, beep.</s>"},
        {"text": "<|user|>Tea?<|end|><|assistant|>Always, beep.<|end|><|endoftext|>"},
    ],
)  # fmt: skip
def test_chat_templates_are_read_wherever_they_stand(record: Any) -> None:
    said, notes = read([record, record])
    assert said == [TALK[:2], TALK[:2]] and notes.problems == []


def test_a_text_file_of_a_chat_template_is_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pip")
    (folder / "dialogues.jsonl").unlink()
    (folder / "chats").mkdir()
    whole = "<|im_start|>system\nYou are Pip.<|im_end|>\n" + TEA + "Always, beep.<|im_end|>\n"
    (folder / "chats" / "a.txt").write_text(whole * 2)
    (folder / "chats" / "b.txt").write_text("<s>[INST] Tea? [/INST] Always, beep. </s>[INST] Rain? [/INST] Soon. </s>")
    (folder / "chats" / "c.txt").write_text("User: What is <|user|>?\nPip: A mark, beep.\n")
    assert parts_of(TEA + "\n")[0][0] == "1" and not parts_of("User: [INST]?") and not parts_of("Hi <|user|>")
    said = turns(read_folder(folder).character.dialogues)  # type: ignore[union-attr]
    assert said[:3] == [TALK[:2], TALK[:2], TALK] and said[3][1] == ("character", "A mark, beep.")


def test_what_a_template_tells_is_no_dialogue_and_what_stands_outside_is_told() -> None:
    notes = Notes()
    texts = ["<s>[INST] <<SYS>>\nPip is a tin robot.\n<</SYS>>\n\nTea? [/INST] Always, beep. </s><s>[INST] Rain? "
             "[/INST] Soon. </s>", f"Persona\n{TEA}Always, beep.<|im_end|>tail"]  # fmt: skip
    found = read_conversations(document("\n".join(map(json.dumps, texts)), "x.jsonl"), PIP, notes)
    assert turns(found.dialogues) == [TALK, TALK[:2]] and found.told == (("x.jsonl:1", "Pip is a tin robot."),)
    assert [entry.text for entry in notes.entries if not entry.taken] == ["Persona", "tail"]


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"instruction": "What does [INST] mean in [/INST]?", "output": "Soon."}, "Alpaca"),
        ({"instruction": "What do <|user|> and <|assistant|> mean?", "output": "Soon."}, "Alpaca"),
        ({"instruction": "Rain?", "output": "Soon.</s>"}, "Alpaca"),
        ({"role": "user", "content": "<|im_start|>user\nTea?"}, "list of messages"),
        ({"turns": [{"role": "user", "text": "<|im_start|>user\nTea?"}]}, "charforge dialogues"),
        ({"text": "no marks <|here|>, <s>none</s>"}, None),
    ],
)
def test_a_mark_alone_makes_no_template(record: Any, name: str | None) -> None:
    known = format_of([record])
    assert (known.name if known else None) == name
