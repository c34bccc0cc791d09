"""``charforge`` as programs and people meet it, run in this process, where all that it imports is imported already."""

from __future__ import annotations

import contextlib
import io
import sys
from contextvars import copy_context
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from charforge.cli.main import main
from charforge.progress import terminal


def charforge(*arguments: str, cwd: Path | None = None) -> CompletedProcess[str]:
    """Exit code, stdout and stderr of ``charforge ARGUMENTS`` in the folder ``cwd``; what is no exit is raised."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code: object = 0
    terminal.cache_clear()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["charforge", *arguments])
        # what a program leaves behind in its environment ends with it
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        try:
            copy_context().run(main)
        except SystemExit as end:
            code = end.code or 0
    terminal.cache_clear()
    assert isinstance(code, int), code
    told, said = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return CompletedProcess(["charforge", *arguments], code, told, said)
