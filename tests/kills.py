"""Kill a training run at random moments, go on each time, and compare what comes out with a run that nobody disturbed.

    python tests/kills.py 40 --work /tmp/kills

Both stages train on a small random base in the official layout, through the real command. Half of the kills come at a
random moment, half just after a file that the run has not written before appears: checkpoints, the bundle, the sheets,
the report, the result. Three of four are SIGKILL, the others SIGTERM. From the moment the first bundle is there, a
watcher reads it again and again: it must always be whole. Finished runs must have the same bundle as the undisturbed
one, byte for byte but for the date; then the next run begins, until all kills are spent.

The processes are forked from this one: what they import is read once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from folders import make_folder
from layout import write_checkpoint

from charforge.bundle import read_bundle
from charforge.bundle.manifest import MANIFEST

SETTINGS = {
    "sft.steps": 6, "sft.dialogues": 1, "sft.knowledge": 0, "sft.looks": 1,
    "sft.study_share": 0, "sft.pictures": 1, "sft.replay_looks": 0,
    "sft.replay_pictures": 1, "sft.draws": 1, "sft.evaluate_every": 2, "sft.preview_every": 3,
    "sft.checkpoint_every": 2, "chat.max_tokens": 4, "pictures.draw_steps": 3, "pictures.draw_side": 64,
    "pictures.longest_side": 64, "pictures.shortest_side": 32, "grpo.iterations": 3, "grpo.prompts": 2,
    "grpo.group": 4, "grpo.updates": 2, "grpo.steps": 4, "grpo.window": 1, "grpo.window_last_start": 1,
    "grpo.anchor_pictures": 1, "grpo.held_out_pictures": 1, "grpo.evaluate_every": 2, "grpo.preview_every": 2,
    "grpo.checkpoint_every": 2, "evaluation.share": 1,
}  # fmt: skip
APPEARING = (
    "pairs/pairs.jsonl", "cache/pictures.json", "checkpoints/last.safetensors", "checkpoints/best.safetensors",
    "adapter/adapter_model.safetensors", "avatar.png", "pip.charx", "measured/texts-off.json", "before_after.png",
    "replies.json", "curves.png", "report.html", "result.json", "checkpoints/grpo/last.safetensors",
    "reward_curves.png", "evaluation.html",
)  # fmt: skip
REWRITTEN = ("pip.charx", "adapter/adapter_model.safetensors", "report.html", "result.json")
"""Files that the second stage writes again: a kill may also wait for that."""
LIMIT = 600.0


@dataclass(frozen=True)
class Kill:
    """One kill: how, after what, and how the process ended (its exit code, or minus the signal)."""

    signal: str
    after: str
    seconds: float
    ended: int
    stage_done: str


def train(folder: Path, out: str) -> int:
    """``charforge train`` in a process of its own; returns its id."""
    process = os.fork()
    if process:
        return process
    os.chdir(folder)
    with Path(f"{out}.log").open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    options = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    sys.argv = ["charforge", "train", "pip", "--base", "./base", "--out", out, *options]
    from charforge.cli.main import main

    try:
        main()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def exit_code(process: int, block: bool) -> int | None:
    """How ``process`` ended, None while it runs."""
    done, status = os.waitpid(process, 0 if block else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def written(run: Path, name: str) -> tuple[int, int]:
    """What changes when a file is written: (0, 0) where there is none."""
    try:
        status = (run / name).stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_ino, status.st_mtime_ns)


def contents(bundle: Path) -> dict[str, object]:
    """Every member of a verified bundle; the manifest without the date."""
    members: dict[str, object] = dict(read_bundle(bundle).contents)
    manifest = json.loads(bytes(members[MANIFEST]))  # type: ignore[call-overload]
    del manifest["created"]
    return members | {MANIFEST: manifest}


def figures(run: Path) -> dict[str, object]:
    """The result without what depends on the clock and on the number of sittings: how much was evaluated does too."""
    told = json.loads((run / "result.json").read_text("utf-8"))
    return {key: value for key, value in told.items() if key not in ("train_seconds", "peak_memory_gib", "evaluation")}


def stage_of(run: Path) -> str:
    """The stage that is finished, or none."""
    file = run / "result.json"
    return str(json.loads(file.read_text("utf-8"))["stage"]) if file.exists() else "none"


class Watch:
    """Reads the bundle as often as it can: once it is there, it must always be whole."""

    def __init__(self, run: Path) -> None:
        self.bundle, self.seen, self.readings = run / "pip.charx", False, 0

    def look(self) -> None:
        if self.bundle.exists():
            read_bundle(self.bundle)
            self.seen, self.readings = True, self.readings + 1
        assert not self.seen or self.bundle.exists(), f"{self.bundle} was there and is gone"
        assert self.seen or stage_of(self.bundle.parent) == "none", "a stage is finished and there is no bundle"


def killed(folder: Path, out: str, watch: Watch, chance: random.Random, longest: float) -> Kill | int:
    """Let a sitting begin and kill it; where it ends by itself before, its exit code."""
    run, process = folder / out, train(folder, out)
    number = signal.SIGTERM if chance.random() < 0.25 else signal.SIGKILL
    names = [name for name in APPEARING if written(run, name) == (0, 0)] or list(REWRITTEN)
    names += list(REWRITTEN) if stage_of(run) == "sft" else []
    name = chance.choice(names) if chance.random() < 0.5 else ""
    before = written(run, name) if name else (0, 0)
    # just after a file appears: while the next ones are written. At a random time: rather early, since
    # a sitting that goes on has less to do than a whole run
    pause = chance.uniform(0, 0.3) if name else longest * chance.random() ** 2
    began = time.monotonic()
    seen: float | None = None if name else began
    while time.monotonic() - began < LIMIT:
        code = exit_code(process, block=False)
        if code is not None:
            return code
        watch.look()
        if seen is None and written(run, name) != before:
            seen = time.monotonic()
        if seen is not None and time.monotonic() - seen >= pause:
            break
        time.sleep(0.02)
    os.kill(process, number)
    sent = time.monotonic()
    ended = exit_code(process, block=True)
    assert ended is not None
    waited = time.monotonic() - sent
    after = name or "a random time"
    watch.look()
    if ended == 0:
        # too late: it was on its way out
        return ended
    if number == signal.SIGTERM:
        # by the signal itself: before its own handler was in place
        assert ended in (130, -signal.SIGTERM), (folder / f"{out}.log").read_text("utf-8")[-2000:]
        after += f" (left {waited:.1f} s after the signal)"
    return Kill(number.name, after, round(sent - began, 2), ended, stage_of(run))


def kill_and_go_on(work: Path, kills: int, seed: int) -> dict[str, object]:
    """Everything; raises AssertionError where something is lost or differs."""
    chance = random.Random(seed)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "base").exists():
        write_checkpoint(work / "base")
        make_folder(work / "pip")
    began = time.monotonic()
    assert exit_code(train(work, "whole"), block=True) == 0, (work / "whole.log").read_text("utf-8")[-2000:]
    longest = time.monotonic() - began
    expected, numbers = contents(work / "whole" / "pip.charx"), figures(work / "whole")
    done: list[Kill] = []
    runs = readings = 0
    while len(done) < kills:
        runs += 1
        out = f"cut-{runs}"
        watch = Watch(work / out)
        while True:
            told = killed(work, out, watch, chance, longest) if len(done) < kills else None
            if told is None:
                told = exit_code(train(work, out), block=True)
            if isinstance(told, Kill):
                done.append(told)
                continue
            log = (work / f"{out}.log").read_text("utf-8")
            assert told == 0, f"going on ended with {told}: {log[-2000:]}"
            break
        watch.look()
        readings += watch.readings
        assert stage_of(work / out) == "grpo"
        assert contents(work / out / "pip.charx") == expected, f"the bundle of {out} differs from the undisturbed one"
        assert figures(work / out) == numbers, f"the figures of {out} differ from the undisturbed ones"
    return {
        "kills": len(done),
        "runs": runs,
        "bundle_readings": readings,
        "by_signal": dict(Counter(kill.signal for kill in done)),
        "by_ending": dict(Counter(str(kill.ended) for kill in done)),
        "by_finished_stage": dict(Counter(kill.stage_done for kill in done)),
        "seconds_of_a_whole_run": round(longest, 1),
        "details": [asdict(kill) for kill in done],
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description="kill a training run at random moments and compare")
    parser.add_argument("kills", type=int)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # read once, for all the processes
    import torch

    import charforge.run.job  # noqa: F401

    torch.set_num_threads(1)
    os.environ["CHARFORGE_CACHE"] = str((arguments.work / "cache").absolute())
    print(json.dumps(kill_and_go_on(arguments.work.absolute(), arguments.kills, arguments.seed), indent=1))


if __name__ == "__main__":
    main()
