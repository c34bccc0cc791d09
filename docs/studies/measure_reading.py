"""What reading costs: a chat of 7.5 MB and a lorebook of 6,000 entries, and how it grows.

    python docs/studies/measure_reading.py [--expand]

Prints processor seconds and the largest memory (MiB) of reading, and of expanding, each folder. Each is done at a
quarter of the size too: four times as long means that the work is linear.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from charforge.character import read_character
from charforge.expand import expand

WREN = Path(__file__).parents[2] / "examples" / "wren"
SYLLABLES = [a + b for a in ("b", "gr", "l", "m", "st", "t", "w") for b in ("a", "el", "ick", "o", "um")]


def vocabulary(words: int = 3000) -> list[str]:
    """Invented words, each once."""
    chooser = random.Random(1)
    made = dict.fromkeys("".join(chooser.choices(SYLLABLES, k=chooser.choice((1, 2, 2, 3)))) for _ in range(9 * words))
    return list(made)[:words]


WORDS = vocabulary()
# words of a language are not equally frequent
WEIGHTS = [1 / (rank + 3) for rank in range(len(WORDS))]


def talk(chooser: random.Random, words: int) -> str:
    """A sentence of random words."""
    return " ".join(chooser.choices(WORDS, WEIGHTS, k=words)).capitalize() + "."


def chat(folder: Path, megabytes: float) -> Path:
    """Wren's folder with one log of about this size beside it."""
    shutil.copytree(WREN, folder)
    chooser, size, lines = random.Random(0), 0, [json.dumps({"user_name": "Ann", "character_name": "Wren"})]
    while size < megabytes * 1e6:
        is_user = len(lines) % 2 == 1
        words = talk(chooser, 12 if is_user else 40)
        lines.append(json.dumps({"name": "Ann" if is_user else "Wren", "is_user": is_user, "mes": words}))
        size += len(lines[-1]) + 1
    (folder / "chats").mkdir()
    (folder / "chats" / "long.jsonl").write_text("\n".join(lines))
    return folder


def lorebook(folder: Path, entries: int) -> Path:
    """Wren's folder with a lorebook of so many entries of three sentences."""
    shutil.copytree(WREN, folder)
    chooser = random.Random(0)
    names = list(dict.fromkeys(" ".join(chooser.sample(WORDS, 2)).title() for _ in range(2 * entries)))
    rows = {
        str(number): {
            "key": [name],
            "content": f"{name} is a {chooser.choice(WORDS)}. " + talk(chooser, 9) + " " + talk(chooser, 7),
        }
        for number, name in enumerate(names[:entries])
    }
    (folder / "lorebook.json").write_text(json.dumps({"entries": rows}))
    return folder


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one run."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expand", action="store_true", help="expand each folder too")
    parser.add_argument("--megabytes", type=float, default=7.5, help="of the long chat")
    parser.add_argument("--entries", type=int, default=6000, help="of the lorebook")
    arguments = parser.parse_args()
    size, entries = arguments.megabytes, arguments.entries
    with tempfile.TemporaryDirectory() as place:
        made = {
            f"chat {size:.2g} MB": chat(Path(place) / "chat", size),
            f"chat {size / 4:.2g} MB": chat(Path(place) / "chat-quarter", size / 4),
            f"lorebook {entries:,}": lorebook(Path(place) / "book", entries),
            f"lorebook {entries // 4:,}": lorebook(Path(place) / "book-quarter", entries // 4),
        }
        for name, folder in made.items():
            took = seconds(lambda folder=folder: read_character(folder))
            line = f"{name:15} read {took:6.2f} s"
            if arguments.expand:
                character = read_character(folder)
                line += f"  expand {seconds(lambda character=character: expand(character)):7.2f} s"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{line}  peak so far {peak:5.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
