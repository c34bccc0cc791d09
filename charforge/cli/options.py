"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="processor threads; else OMP_NUM_THREADS, else the idle cores")
]
