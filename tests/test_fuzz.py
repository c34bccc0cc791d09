"""The fuzzer itself, and a handful of its cases; `python tests/fuzz_readers.py --seconds 900` runs for long."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz_readers import SEEDS, TARGETS, attempt, limited, run_case

from charforge.errors import InputError


@pytest.mark.parametrize("block", range(4))
def test_mutated_files_end_in_a_result_or_a_sentence(block: int) -> None:
    for number in range(block * 20, block * 20 + 20):
        seed, outcome = run_case(number, 7)
        assert outcome.kind in ("read", "refused"), (number, seed.target, seed.file, outcome)


def test_every_reader_has_its_seeds() -> None:
    assert {seed.target for seed in SEEDS} == set(TARGETS)


def test_the_fuzzer_sees_what_goes_wrong() -> None:
    def refuse() -> None:
        raise InputError("no")

    assert attempt(refuse).kind == "refused"
    assert attempt(lambda: [][0]).kind == "crash"
    assert attempt(lambda: None).kind == "read"


def test_what_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz_readers.SECONDS_A_CASE", 0.05)
    assert attempt(lambda: time.sleep(30)).kind == "hang"
    with limited(30):
        pass


def test_writing_and_starting_programs_is_noticed(tmp_path: Path) -> None:
    code = """
import sys, subprocess, fuzz_readers as f
from pathlib import Path
sys.addaudithook(f.watched)
file = Path(sys.argv[1])
print(f.attempt(lambda: file.write_text("x")).kind, f.attempt(lambda: subprocess.run(["true"])).kind,
      f.attempt(lambda: file.mkdir()).kind, f.attempt(lambda: Path(__import__("os").__file__).read_bytes()).kind)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=100, check=False)
    assert done.stdout.split() == ["touched", "touched", "touched", "read"], done.stderr
