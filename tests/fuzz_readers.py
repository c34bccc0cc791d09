"""Fuzzing of everything that reads a person's files: mutated folders, pictures, cards, bundles, settings, pairs.

    python tests/fuzz_readers.py --seconds 900 --seed 1
    python tests/fuzz_readers.py --seconds 900 --only bundle --only card --only weights

Every input must end in a result or a CharforgeError, within seconds, without writing anything, starting a program or
opening a connection, and what was read must be text that can be written as UTF-8. Inputs are made from valid ones by a
seeded generator: case N of a seed is the same everywhere. A case that fails is kept with its traceback in --keep, and
`--case N` runs it again alone. The worker runs apart: one that hangs or dies is counted and started anew behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bundle_parts import RANK
from folders import check_character
from fuzz_seeds import SEEDS, Seed, base_folder
from mutations import mutated

from charforge.bundle import read_bundle
from charforge.bundle.adapter import Refusal, check_adapter
from charforge.bundle.read import plain_card
from charforge.character import load_picture, read_character
from charforge.character.cards import read_card
from charforge.character.judge_captions import judge_captions
from charforge.character.judge_dialogues import judge_dialogues
from charforge.character.judge_pictures import judge_pictures
from charforge.errors import CharforgeError, Problem
from charforge.expand import expand, read_pairs
from charforge.settings import read_settings
from charforge.tensor_headers import read_header

SECONDS_A_CASE = 8
SECONDS_WITHOUT_A_WORD = 40
MEMORY = 4 << 30
ODD_NAMES = (
    "a\nb",
    "\udcff",
    "e\u0301",
    "[red]x[",
    " ",
    "x" * 200,
    "-rf",
    "..x",
    "\u202ex",
    "card",
    "01",
    "1" * 60,
    "%s",
)


class Hang(BaseException):
    """A case took longer than ``SECONDS_A_CASE``."""


class Touched(BaseException):
    """A reader wrote, started a program or opened a connection."""


@dataclass(frozen=True)
class Outcome:
    """``kind``: read, refused, crash, hang, touched or died; ``where``: the line of charforge it came from."""

    kind: str
    where: str = ""
    detail: str = ""


# what is done with an input


def read_folder(folder: Path, number: int) -> None:
    """The way of ``charforge check``, and for some folders that of ``charforge expand``."""
    problems = check_character(folder)
    for problem in problems:
        check_sentence(problem)
    if any(problem.level == "error" for problem in problems):
        raise CharforgeError
    character = read_character(folder)
    told = json.dumps(asdict(character), ensure_ascii=False, default=str).encode("utf-8")
    assert told
    for problem in (*judge_pictures(character)[1], *judge_captions(character), *judge_dialogues(character)[1]):
        check_sentence(problem)
    if number % 20 == 0:
        for pair in expand(character).pairs:
            pair.model_dump_json().encode("utf-8")


def check_sentence(problem: Problem) -> None:
    """One line each that every terminal can show; a lone surrogate may stand in a file's name alone."""
    text = f"{problem.problem}|{problem.remedy}"
    assert "\n" not in text and problem.problem and problem.remedy, problem
    text.encode("utf-8")


def read_weights(path: Path) -> None:
    """The way of an adapter out of a bundle, and that of a base's file."""
    read_header(path)
    try:
        check_adapter(path.read_bytes(), RANK)
    except Refusal as refusal:
        raise CharforgeError(str(refusal)) from refusal


def read_any_bundle(path: Path) -> None:
    plain_card(path)
    read_bundle(path)


TARGETS: dict[str, Callable[[Path, int], object]] = {
    "folder": read_folder,
    "picture": lambda path, number: load_picture(path),
    "card": lambda path, number: read_card(path),
    "bundle": lambda path, number: read_any_bundle(path),
    "weights": lambda path, number: read_weights(path),
    "settings": lambda path, number: read_settings(path, None, []),
    "pairs": lambda path, number: read_pairs(path),
}


# one case


def lay(seed: Seed, content: bytes, scratch: Path, name: str = "") -> Path:
    """The input on disk: a folder with one file of it changed, perhaps under another ``name``, or the file alone."""
    if seed.target != "folder":
        path = scratch / seed.file
        path.write_bytes(content)
        return path
    folder = scratch / "pip"
    base_folder(folder, seed.without)
    path = folder / (Path(seed.file).parent / name if name else seed.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return folder


def run_case(number: int, seed_value: int, keep: Path | None = None, only: Sequence[str] = ()) -> tuple[Seed, Outcome]:
    """Make case ``number`` and run it."""
    rng = random.Random(f"{seed_value}:{number}")
    seed = rng.choice([one for one in SEEDS if not only or one.target in only])
    content = mutated(seed.content, rng, [other.content for other in SEEDS if other.target == seed.target])
    suffix = Path(seed.file).suffix
    name = f"{rng.choice(ODD_NAMES)}{rng.choice((suffix, suffix, suffix.upper(), ''))}" if rng.random() < 0.05 else ""
    with tempfile.TemporaryDirectory() as scratch:
        path = lay(seed, content, Path(scratch), name)
        outcome = attempt(lambda: TARGETS[seed.target](path, number))
    if keep is not None and outcome.kind not in ("read", "refused"):
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{number}-{Path(seed.file).name}").write_bytes(content)
        (keep / f"{number}.txt").write_text(
            f"{seed.target} {seed.file} {outcome.kind} {outcome.where}\n{outcome.detail}"
        )
    return seed, outcome


def attempt(read: Callable[[], object]) -> Outcome:
    """Run a reader under guard."""
    try:
        with limited(SECONDS_A_CASE), guarded():
            read()
    except CharforgeError:
        return Outcome("refused")
    except Hang as hang:
        return Outcome("hang", place_of(hang), traceback.format_exc())
    except Touched as touched:
        return Outcome("touched", place_of(touched), traceback.format_exc())
    except Exception as error:
        return Outcome("crash", f"{type(error).__name__} {place_of(error)}", traceback.format_exc())
    return Outcome("read")


def place_of(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "charforge/" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Hang inside the block when it takes longer."""

    def stop(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


_GUARD = {"on": False}
_EVENTS = (
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.system",
    "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "shutil.",
)  # fmt: skip


def watched(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook of this interpreter."""
    if not _GUARD["on"]:
        return
    # open(path, mode, flags): reading is what readers do
    writes = event == "open" and len(arguments) > 2 and isinstance(arguments[2], int) and (
        arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    )  # fmt: skip
    if writes or event.startswith(_EVENTS):
        raise Touched(f"{event} {arguments!r}"[:300])


@contextmanager
def guarded() -> Iterator[None]:
    """Raise Touched inside the block for every write, program and connection."""
    _GUARD["on"] = True
    try:
        yield
    finally:
        _GUARD["on"] = False


# the worker, and who watches it


def work(seed_value: int, first: int, seconds: float, keep: Path, only: Sequence[str]) -> None:
    """Run cases from ``first`` on and tell each on stdout: before it begins, and how it ended."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    ends = time.monotonic() + seconds
    number = first
    while time.monotonic() < ends:
        print(json.dumps({"begins": number}), flush=True)
        seed, outcome = run_case(number, seed_value, keep, only)
        print(json.dumps({"ended": number, "target": seed.target, **asdict(outcome)}), flush=True)
        number += 1


def watch(seed_value: int, seconds: float, keep: Path, only: Sequence[str]) -> Counter[tuple[str, str]]:
    """Start workers until the time is over; how often each kind of end came, by target; what failed goes to stderr."""
    counts: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    ends, first = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        command = [sys.executable, __file__, "--seed", str(seed_value), "--first", str(first), "--keep", str(keep)]
        command += ["--seconds", str(ends - time.monotonic()), "--worker"]
        command += [word for target in only for word in ("--only", target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            last, why = first, "died"
            for line in _lines(worker):
                if line is None:
                    worker.kill()
                    why = "hang"
                    break
                row = json.loads(line)
                last = row.get("begins", row.get("ended", last))
                if "ended" in row:
                    counts[row["target"], row["kind"]] += 1
                    if row["kind"] not in ("read", "refused"):
                        seen[f"{row['kind']} {row['where']}"] += 1
                        if seen[f"{row['kind']} {row['where']}"] == 1:
                            sys.stderr.write(f"case {row['ended']}: {row['target']} {row['kind']} {row['where']}\n")
                    last += 1
        if worker.returncode:
            counts["worker", why] += 1
            sys.stderr.write(f"case {last}: the worker {why} ({worker.returncode})\n")
            last += 1
        first = last
    return counts


def _lines(worker: subprocess.Popen[bytes]) -> Iterator[str | None]:
    """Lines of a worker; None when it says nothing for too long."""
    assert worker.stdout is not None
    chooser = selectors.DefaultSelector()
    chooser.register(worker.stdout, selectors.EVENT_READ)
    while chooser.select(SECONDS_WITHOUT_A_WORD):
        line = worker.stdout.readline()
        if not line:
            return
        yield line.decode()
    yield None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--case", type=int, help="run this one case and show what happens")
    parser.add_argument("--only", action="append", choices=TARGETS, default=[], help="inputs of this kind alone")
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    sys.addaudithook(watched)
    if a.case is not None:
        seed, outcome = run_case(a.case, a.seed, a.keep, a.only)
        print(seed.target, seed.file, outcome.kind, outcome.where, outcome.detail, sep="\n")
    elif a.worker:
        work(a.seed, a.first, a.seconds, a.keep, a.only)
    else:
        counts = watch(a.seed, a.seconds, a.keep, a.only)
        for (target, kind), count in sorted(counts.items()):
            print(f"{count:8d}  {target:10s} {kind}")
        bad = sum(count for (_, kind), count in counts.items() if kind not in ("read", "refused"))
        print(f"{sum(counts.values()):8d}  cases, {bad} of them failed")
        sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
