"""One sheet to judge a trained Wren by: her ten pictures, eight unseen prompts, four controls without and with her.

python examples/make_sheet.py runs/wren/wren.charx --out sheet.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from charforge.bases.prepare import contact_sheet, draw_prompts
from PIL import Image

from charforge.chat.session import Session, open_character
from charforge.low_rank import adapter_off

HERE = Path(__file__).parent
SEED = 100


def lines(name: str) -> list[str]:
    """The lines of a text file beside this script."""
    return (HERE / name).read_text("utf-8").splitlines()


def sheet(session: Session, inputs: Path) -> Image.Image:
    """Rows: the inputs; unseen prompts without and with the adapter; controls without and with the adapter."""
    unseen, controls = lines("wren_unseen_prompts.txt"), lines("control_prompts.txt")
    seeds = [SEED + number for number in range(len(unseen))]
    with adapter_off(session.base.model):
        before = draw_prompts(session.base, unseen, seeds)
        plain = draw_prompts(session.base, controls, seeds[: len(controls)])
    after = draw_prompts(session.base, unseen, seeds)
    changed = draw_prompts(session.base, controls, seeds[: len(controls)])
    white = Image.new("RGB", (128, 128), (255, 255, 255))
    first = [Image.open(path).convert("RGB") for path in sorted(inputs.glob("*.png"))]
    pairs = [picture for both in zip(plain, changed, strict=True) for picture in both]
    rows = [*first, *before, white, white, *after, white, white, *pairs]
    return contact_sheet(rows, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sheet and ask the unseen questions.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--inputs", type=Path, default=HERE / "wren" / "images")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    arguments = parser.parse_args()
    session = open_character(arguments.bundle)
    sheet(session, arguments.inputs).save(arguments.out, optimize=True)
    for question in lines("wren_unseen_questions.txt"):
        answers = {}
        for state in ("with", "without"):
            fresh = Session(session.base, session.character, session.settings)
            if state == "with":
                answers[state] = fresh.say(question, SEED, draw=False).text
            else:
                with adapter_off(session.base.model):
                    answers[state] = fresh.say(question, SEED, draw=False).text
        print(json.dumps({"question": question, **answers}, ensure_ascii=False))


if __name__ == "__main__":
    main()
