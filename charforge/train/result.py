"""What a finished run measured, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from charforge.errors import InputError


def read_result(file: Path) -> dict[str, Any]:
    """What a finished run measured. Raises InputError when ``result.json`` is damaged."""
    try:
        metrics = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: remove it; the run then goes on from its last checkpoint") from error
    if not isinstance(metrics, dict) or "stage" not in metrics:
        raise InputError(f"{file} is not the result of a run: remove it; the run then goes on from its last checkpoint")
    return metrics
