"""What charforge itself wrote beside a character's files, and what is therefore nobody's content."""

from __future__ import annotations

import json
from pathlib import Path


def is_result(path: Path) -> bool:
    """Whether a file or folder beside a character's files is one of our own: a run, or what lies beside pairs."""
    if path.is_dir():
        runs = [path, *(inner for inner in path.iterdir() if inner.is_dir())] if path.name == "runs" else [path]
        return any((run / "config.toml").is_file() and any(run.glob("identity.*")) for run in runs)
    stem = path.name.removesuffix(".html")
    for ending in (".dropped.jsonl", ".written.jsonl", ".ledger.json"):
        stem = stem.removesuffix(ending)
    return stem != path.name and holds_pairs(path.with_name(f"{stem}.jsonl"))


def holds_pairs(path: Path) -> bool:
    """Whether a file begins with one of our pairs."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            row = json.loads(file.readline(1 << 20).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"id", "task", "parts"} <= set(row)
