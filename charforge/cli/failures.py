"""Whatever happens ends in a sentence and an exit code. --verbose or CHARFORGE_DEBUG=1 show the traceback as well."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from charforge.progress import verbosity

if TYPE_CHECKING:
    from charforge.errors import CharforgeError

USAGE, MACHINE, FAULT, INTERRUPTED = 2, 3, 70, 130
"""Exit codes beside those of the errors themselves. ``FAULT``: charforge itself is wrong."""


def run(command: Callable[[], object]) -> None:
    """Run the command line and leave with its exit code; no exception gets past this but SystemExit."""
    _make_streams_safe()
    refused = unreadable_argument(sys.argv[1:])
    if refused is not None:
        sys.stderr.write(f"charforge: {refused}\n")
        sys.exit(USAGE)
    code = _code_of(command)
    sys.exit(_flushed(code))


def _code_of(command: Callable[[], object]) -> int:
    """The exit code of the command, and what went wrong in a sentence on stderr."""
    from charforge.errors import Interrupted

    try:
        command()
        return 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
        if code == INTERRUPTED:
            sys.stderr.write("interrupted\n")
        return code
    except Interrupted as interrupted:
        sys.stderr.write(f"charforge: {interrupted}\n")
        return interrupted.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has left, like `| head`: nothing is wrong
        return 1
    except Exception as error:
        if os.environ.get("CHARFORGE_DEBUG") or verbosity.get() == "verbose":
            traceback.print_exc()
        return tell_failure(error)


def tell_failure(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code for it."""
    from charforge.cli.output import print_error

    known = known_error(error)
    if known is None:
        sys.stderr.write(f"charforge: {fault(error)}\n")
        return FAULT
    print_error(known)
    return known.exit_code


def known_error(error: Exception) -> CharforgeError | None:
    """The error as a sentence, where its cause lies in what was given or in the machine and not in charforge; otherwise
    None."""
    from charforge.errors import CharforgeError, MachineError, from_os_error

    if isinstance(error, CharforgeError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return from_os_error(error)
    # torch's own error for a GPU, and the RuntimeError of its allocator for the host
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if full or "can't allocate memory" in str(error):
        return MachineError(
            "there is not enough memory: close other programs, or take a smaller preset "
            "(`charforge train DIR --dry-run` says what a run needs)"
        )
    return None


def fault(error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    return (
        f"{type(error).__name__}{f' ({words})' if words else ''}: this is a fault of charforge, not of your files; "
        "run it again with --verbose for details, and report them"
    )


def unreadable_argument(arguments: list[str]) -> str | None:
    """Why an argument cannot be used: its bytes are no text. Files may be called like that; words may not."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            value = argument.partition("=")[2] if argument.startswith("--") else argument
            if not _is_there(value):
                told = argument.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                return f'the argument "{told}" holds bytes that are no UTF-8 text: type it again in a UTF-8 terminal'
    return None


def _is_there(name: str) -> bool:
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):
        return False


def _make_streams_safe() -> None:
    """A closed stream, or one that cannot hold a letter, stops nothing."""
    # open as long as the process lives
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=errors)


def _flushed(code: int) -> int:
    """Write out what is still held back; the exit code, or another one when that fails."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 1
    except OSError as error:
        sys.stderr.write(f"charforge: the result could not be written ({error.strerror}): send it somewhere else\n")
        code = MACHINE
    else:
        return code
    # the interpreter flushes once more on leaving, and would complain again
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
