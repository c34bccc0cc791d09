"""Killed at random moments and carried on, a run ends in the same bundle: see kills.py, here with a few kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KILLS = os.environ.get("CHARFORGE_KILLS", "2")


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bundle(tmp_path: Path):
    command = [sys.executable, str(Path(__file__).parent / "kills.py"), KILLS, "--work", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["kills"] == int(KILLS) and told["bundle_readings"] > 0
