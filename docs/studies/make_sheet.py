"""One sheet to judge a trained Wren by: her ten pictures, eight unseen prompts, four controls without and with her.

python docs/studies/make_sheet.py runs/wren/wren.charx --out sheet.png
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from charforge.bases.drawing import draw_prompts
from charforge.chat.conversation import Conversation, reply_of
from charforge.chat.session import Session, open_character
from charforge.pixels import contact_sheet

HERE = Path(__file__).parent
SEED, COLUMNS = 100, 10


def lines(name: str) -> list[str]:
    """The lines of a text file beside this script."""
    return (HERE / name).read_text("utf-8").splitlines()


def sheet(session: Session, inputs: Path, first: int | None) -> Image.Image:
    """Rows: the inputs; unseen prompts without and with the adapter; controls without and with the adapter."""
    unseen, controls = lines("wren_unseen_prompts.txt")[:first], lines("control_prompts.txt")[:first]
    seeds = [SEED + number for number in range(len(unseen))]
    model, bare = session.base.model, replace(session, adapter=None)
    with bare.acts():
        before = draw_prompts(model, unseen, seeds)
        plain = draw_prompts(model, controls, seeds[: len(controls)])
    with session.acts():
        after = draw_prompts(model, unseen, seeds)
        changed = draw_prompts(model, controls, seeds[: len(controls)])
    blank = [Image.new("RGB", (128, 128), (255, 255, 255))] * (COLUMNS - len(unseen))
    given = [Image.open(path).convert("RGB") for path in sorted(inputs.glob("*.png"))]
    pairs = [picture for both in zip(plain, changed, strict=True) for picture in both]
    rows = [*given, *before, *blank, *after, *blank, *pairs]
    return contact_sheet(rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sheet and ask the unseen questions.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--inputs", type=Path, default=HERE.parents[1] / "examples" / "wren" / "images")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    parser.add_argument("--first", type=int, help="only so many prompts, controls and questions")
    arguments = parser.parse_args()
    session = open_character(arguments.bundle)
    sheet(session, arguments.inputs, arguments.first).save(arguments.out, optimize=True)
    states = {"with": session, "without": replace(session, adapter=None)}
    for question in lines("wren_unseen_questions.txt")[: arguments.first]:
        answers = {
            state: reply_of(Conversation(one, pictures="never").say(question, SEED)).text
            for state, one in states.items()
        }
        print(json.dumps({"question": question, **answers}, ensure_ascii=False))


if __name__ == "__main__":
    main()
