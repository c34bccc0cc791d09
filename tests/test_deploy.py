"""examples/deploy: the Slurm script with stand-ins for charforge and scontrol; the others as far as files go."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "examples" / "deploy"
CHARFORGE = """#!/bin/bash
echo "$@" >> "$HERE/called"
trap 'exit 130' TERM
if [ -n "$WAITS" ]; then touch "$HERE/waits"; while true; do sleep 0.05; done; fi
exit ${ENDS:-0}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three characters, and programs that write down how they were called."""
    for name in ("b nib", "a-pip", "c-mam"):
        (tmp_path / "cast" / name).mkdir(parents=True)
    (tmp_path / "cast" / "notes.txt").write_text("no folder")
    (tmp_path / "bin").mkdir()
    for name, text in (("charforge", CHARFORGE), ("scontrol", '#!/bin/bash\necho "$@" > "$HERE/requeued"\n')):
        file = tmp_path / "bin" / name
        file.write_text(text)
        file.chmod(0o755)
    return tmp_path


def slurm(place: Path, task: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    known = os.environ | {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HERE": str(place), "SLURM_ARRAY_TASK_ID": task,
        "SLURM_ARRAY_JOB_ID": "77",
    }  # fmt: skip
    command = ["bash", str(DEPLOY / "slurm.sh"), str(place / "cast"), "runs", *options]
    return subprocess.Popen(command, env=known | environment, stderr=subprocess.PIPE, text=True)


def test_each_task_of_the_array_trains_its_character(place: Path):
    for task in ("1", "2", "3"):
        assert slurm(place, task, "--seed", "7").wait(20) == 0
    cast = place / "cast"
    assert (place / "called").read_text().splitlines() == [
        f"train {cast}/{name} --out runs/{name} --seed 7" for name in ("a-pip", "b nib", "c-mam")
    ]
    assert not (place / "requeued").exists()


def test_a_task_without_a_character_says_so(place: Path):
    started = slurm(place, "4")
    assert "fewer than 4 folders" in started.communicate(timeout=20)[1] and started.returncode == 1
    assert slurm(place, "").wait(20) == 2


@pytest.mark.parametrize("code", ["1", "3"])
def test_a_failure_is_the_jobs_and_is_not_queued_again(place: Path, code: str):
    assert slurm(place, "1", ENDS=code).wait(20) == int(code) and not (place / "requeued").exists()


def test_what_is_preempted_saves_and_goes_back_into_the_queue(place: Path):
    started = slurm(place, "2", WAITS="1")
    end = time.monotonic() + 20
    while not (place / "waits").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 130
    assert (place / "requeued").read_text() == "requeue 77_2\n"


def test_the_others_are_whole_files_that_use_options_that_exist():
    task = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text())
    assert task["resources"]["use_spot"] is True and "charforge train" in task["run"] and task["file_mounts"]["/runs"]
    ast.parse((DEPLOY / "ray_cast.py").read_text())
