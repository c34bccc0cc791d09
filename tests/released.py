"""A small invented release in the layout of RoleScape: Pip and Nan, with every kind of file and a few bad items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from folders import drawing

HEAD = {"description": "Pip is a small clay robot who runs a tea cart.", "opening": ""}


def choice(number: int, question: str, options: list[str], right: str) -> dict[str, Any]:
    return {"id": f"mcq_{number:03d}", "question": question, "options": dict(zip("ABCD", options, strict=False)),
            "answer_key": right, "difficulty": "easy", "evidence": "", "rationale": ""}  # fmt: skip


def scene(user: str, reply: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "text": user}, {"role": "machine", "text": reply, **more}]


def write_character(train: Path, test: Path, name: str, first_picture: int) -> None:
    """The files of one character; its texts are about tea and buttons, whoever it is."""

    def write(folder: Path, file: str, key: str, items: list[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps({**HEAD, key: items}), "utf-8")

    for folder, count in ((train, 4), (test, 2)):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            drawing(first_picture + number + (10 if folder == test else 0)).save(folder / f"{number}.png")
        (folder / f"{name}_full_profile.txt").write_text(f"{name} is a clay robot.", "utf-8")
    seeds = [scene(f"What are you brewing, {name}?", "Fog tea, beep.", image=str(number)) for number in range(4)]
    write(train, "annotation.json", "scenes", seeds)
    asked = [
        choice(1, f"What colour is {name}?", ["Brown", "White", "Green", "Blue"], "A"),
        choice(2, "What is behind it?", ["A wall", "A sea", "A cart"], "C"),
    ]
    open_questions = [{"question": f"What colour is {name}?", "answer": "Brown.", "type": "objective"}]
    looked = [scene("Hello", "Beep.", image="0", mcq_items=asked, qa_pairs=open_questions),
              scene("Hello", "Beep.", image="1", mcq_items=[asked[1]])]  # fmt: skip
    write(train, f"{name}_with_image.json", "scenes", looked)
    write(train, f"{name}_t2i_instruction.json", "t2i_instructions", [])
    lines = [
        scene("Do you like the rain?", f"{name} has a yellow coat, beep."),
        scene("Where is your cart?", "By the harbour."),
    ]
    write(train, f"{name}_dialogue_text_extension_train.json", "scenes", [lines[0]])
    write(train, f"{name}_dialogue_text_extension_test.json", "scenes", lines)
    known = {"id": "qa_001", "question": f"Who built {name}?", "answer": "Ottoline", "evidence": "", "type": "fact"}
    write(train, f"{name}_knowledge_qa.json", "qa_items", [known])
    knowledge = [
        choice(1, f"Who built {name}?", ["A gull", "Ottoline", "Nobody", "A captain"], "B"),
        choice(2, f"What does {name} collect?", ["Shells", "Coins", "Lost buttons", "Hats"], "C"),
        choice(3, f"Where does {name} live?", ["At sea", "In a mill", "In a tea cart", 7], "C"),
    ]
    broken = [choice(4, "Which?", ["One", "Two"], "D"), {"question": "No options?"}]
    write(train, f"{name}_knowledge_qa_test.json", "mcq_items", knowledge + broken)
    write(train, f"{name}_memorization_test.json", "test_questions", ["Which button is the best?", 5])
    write(train, f"{name}_personality_test.json", "test_questions", [f'"*Are you lonely, {name}?*"'])
    write(test, "annotation.json", "scenes", [scene("Are you closing?", "When the fog asks, beep.", image="0")])
    captions = [{"image_id": str(n), "t2i_instruction": f"{name} in a forest, wearing a red coat"} for n in range(2)]
    write(test, f"{name}_t2i_instruction.json", "t2i_instructions", captions)


def write_release(path: Path, nested: bool = False) -> Path:
    """Both characters; ``nested``: as the release has them, all of train beside all of test."""
    for number, (folder, name) in enumerate((("Pip", "Pip"), ("Tales-Nan", "Nan"))):
        if nested:
            root = path / "data/personalized_data"
            train, test = root / "train" / folder, root / "test" / folder
        else:
            train, test = path / folder / "train", path / folder / "test"
        write_character(train, test, name, 20 * number)
    return path
