"""A cast on a Ray cluster: a task for each character; where a worker or a node dies, another one goes on with its run.

    ray job submit --working-dir . -- python ray_cast.py CAST RUNS [options of charforge train]
    python ray_cast.py CAST RUNS --gpus 0 --preset mini

CAST holds the folders of the characters, RUNS gets the runs; both lie on storage that all nodes share, and charforge is
installed on all of them (--charforge says where, if it is not in the PATH).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import ray

RETRIES = 5
PAUSE = 15.0
AGAIN = (3, 130)
"""Exit codes after which another try may do better: the machine failed, or was taken away."""


class MachineFailed(Exception):
    """Worth another try, perhaps on another node."""


def train(charforge: str, folder: str, run: str, options: list[str]) -> dict[str, object]:
    """Train one character, or go on with it; what became of it. Raises MachineFailed where a retry may help."""
    command = [charforge, "train", folder, "--out", run, *options]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, preexec_fn=end_with_worker)
    said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    if done.returncode in AGAIN:
        # one that was orphaned saves for up to ten seconds, and holds its run as long
        time.sleep(PAUSE)
        raise MachineFailed(f"{folder}: {said}")
    return {"character": Path(folder).name, "run": run, "exit_code": done.returncode, "said": said}


def end_with_worker() -> None:
    """Let Linux send SIGTERM to this process when the worker that started it dies: it saves and ends, and does not go
    on beside its successor."""
    if sys.platform == "linux":
        # 1 is PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def main() -> int:
    """Start all tasks, print a line when one ends, and their results as JSON; the exit code of the worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cast", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--gpus", type=float, default=1, help="cards for each character; 0 computes on processors")
    parser.add_argument("--cpus", type=float, default=1, help="processors for each character")
    parser.add_argument("--charforge", default="charforge", help="the command on the nodes")
    parser.add_argument("--address", default=None, help="of the cluster; of the job's own unless given")
    arguments, options = parser.parse_known_args()
    ray.init(address=arguments.address, log_to_driver=False)
    # a worker that dies is a retry of Ray's, a machine that failed is one of ours
    remote = ray.remote(
        num_cpus=arguments.cpus, num_gpus=arguments.gpus, max_retries=RETRIES, retry_exceptions=[MachineFailed]
    )(train)
    folders = sorted(path.resolve() for path in arguments.cast.iterdir() if path.is_dir())
    runs = arguments.runs.resolve()
    waiting = {
        remote.remote(arguments.charforge, str(folder), str(runs / folder.name), options): folder for folder in folders
    }
    results: list[dict[str, object]] = []
    while waiting:
        (ended,), _ = ray.wait(list(waiting))
        folder = waiting.pop(ended)
        try:
            results.append(ray.get(ended))
        except Exception as error:
            results.append(
                {"character": folder.name, "run": str(runs / folder.name), "exit_code": 3, "said": str(error)}
            )
        print(f"{results[-1]['character']}: exit code {results[-1]['exit_code']}", file=sys.stderr)
    print(json.dumps(results, indent=2))
    return max((int(str(result["exit_code"])) for result in results), default=0)


if __name__ == "__main__":
    sys.exit(main())
