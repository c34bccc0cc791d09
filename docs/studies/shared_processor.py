"""What a training step and a spoken token cost alone and beside two busy programs, by how OpenMP's threads wait.

    python docs/studies/shared_processor.py --rounds 3

Each way of waiting is a process of its own, because it is read when torch is loaded. The processes take turns, so
that whatever else the machine does meets all of them. Random weights in the shape of `mini`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from charforge.machine import SPINNING

WAYS: dict[str, dict[str, str]] = {
    "as OpenMP has it": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spins 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "spins 10,000 times": {"GOMP_SPINCOUNT": "10000"},
}
TOKENS, SPOKEN = 256, 12
BUSY = "while True: pass"


def work() -> None:
    """The measured process: answers each line on stdin with the seconds that what it names took."""
    import torch

    from charforge.adapter.lora import add_adapter, lora_config
    from charforge.cost.batches import batch_settings, make_dataset, plan_batch
    from charforge.cost.bench_settings import bench_settings, shapes_to_measure
    from charforge.train.memory import Memory
    from charforge.train.sft import adamw, train_step

    family, shapes = shapes_to_measure("mini")
    settings = bench_settings("mini", None, False)
    model = family.random_model(shapes, "bf16", torch.bfloat16, "cpu", lambda done, of: None)
    lora = lora_config(shapes, settings.adapter.rank, settings.adapter.alpha)
    adapter = add_adapter(model.network, lora, 0)
    batch = plan_batch(shapes, TOKENS)
    data, sft = make_dataset(family, shapes, batch), batch_settings(settings.sft, batch)
    optimizer, memory = adamw(model, adapter, sft, settings.memory.optimizer), Memory(model, settings.memory)
    heard = (family.random_text(shapes, 102, None),)

    def step() -> None:
        train_step(model, list(adapter.values()), optimizer, data, sft, 0, 0, memory)

    @torch.no_grad()
    def speak() -> None:
        with model.autocast():
            steps = model.reply(model.read([heard]), lambda logits: logits.argmax(-1), SPOKEN)
            assert sum(1 for _ in steps) > 0

    asked = {"step": step, "speak": speak}
    for one in asked.values():
        one()
    print("ready", torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        asked[line.strip()]()
        print(time.perf_counter() - began, flush=True)


def start(changes: dict[str, str], threads: int) -> subprocess.Popen[str]:
    """A measured process with ``changes`` in its environment."""
    kept = {name: value for name, value in os.environ.items() if name not in SPINNING}
    environment = {**kept, **changes, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--work"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(process: subprocess.Popen[str], what: str) -> float:
    """Seconds that ``what`` took in there."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """So many programs that compute without end."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Threads beside other programs.")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    ways = {way: WAYS[way] for way in arguments.ways}
    times: dict[tuple[str, int, str, int], list[float]] = {}
    with ExitStack() as stack:
        processes = {}
        for threads in arguments.threads:
            for way, changes in ways.items():
                processes[way, threads] = stack.enter_context(start(changes, threads))
                stack.callback(processes[way, threads].kill)
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready"), "the measured process did not start"
        for beside in (0, arguments.busy):
            with busy_programs(beside):
                for _ in range(arguments.rounds):
                    for (way, threads), process in processes.items():
                        for what in ("step", "speak"):
                            seconds = ask(process, what)
                            times.setdefault((way, threads, what, beside), []).append(seconds)
                            print(f"{way}, {threads} threads, {beside} beside: {what} {seconds:.2f} s", file=sys.stderr)
    middle = {key: statistics.median(values) for key, values in times.items()}
    rows = [
        {
            "waiting": way,
            "threads": threads,
            **{
                f"{what} {'beside ' + str(beside) if beside else 'alone'}": round(middle[way, threads, what, beside], 3)
                for what in ("step", "speak")
                for beside in (0, arguments.busy)
            },
            **{
                f"{what} beside / alone": round(
                    middle[way, threads, what, arguments.busy] / middle[way, threads, what, 0], 2
                )
                for what in ("step", "speak")
            },
        }
        for way, threads in processes
    ]
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
