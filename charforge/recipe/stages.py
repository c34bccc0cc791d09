"""What one stage of the recipe leaves for the next."""

from __future__ import annotations

from pathlib import Path

from charforge.errors import InputError


def require(file: Path, stage: str) -> Path:
    """``file``, which ``stage`` writes. Raises InputError naming the stage where it has not run."""
    if not file.exists():
        raise InputError(f"{file} is missing: run python -m charforge.recipe {stage} first")
    return file
