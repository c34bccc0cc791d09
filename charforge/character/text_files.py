"""Reading the user's files: only inside the folder, only sane sizes, only what is text."""

from __future__ import annotations

from pathlib import Path

from charforge.character.cleaning import decoded, tidied
from charforge.errors import Problem

MAX_TEXT_BYTES = 8 * 1024 * 1024


def shown(folder: Path, path: Path) -> str:
    """The path as the table shows it: relative to the character folder. Bytes that are no text stand as ``\\xe9``."""
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def outside(folder: Path, path: Path) -> Problem | None:
    """A problem when ``path`` leads out of ``folder`` (through a link) or is not a plain file."""
    name = shown(folder, path)
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return Problem(name, "error", "is a link that leads nowhere", "replace the link by the file itself")
    if not real.is_relative_to(folder.resolve()):
        return Problem(
            name,
            "error",
            "is a link that leads outside the character folder",
            "copy the file into the folder",
        )
    if not real.is_file():
        return Problem(name, "error", "is not a plain file", "replace it by a file, or remove it")
    return None


def read_text(folder: Path, path: Path, problems: list[Problem]) -> str | None:
    """The text of ``path`` with plain newlines, or None after adding the reason to ``problems``."""
    name = shown(folder, path)
    refused = outside(folder, path)
    if refused is not None:
        problems.append(refused)
        return None
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            limit = MAX_TEXT_BYTES // 2**20
            problems.append(
                Problem(name, "error", f"is larger than {limit} MB", "keep the parts that matter, remove the rest")
            )
            return None
        data = path.read_bytes()
    except OSError as error:
        problems.append(Problem(name, "error", f"cannot be read ({error.strerror})", "make the file readable for you"))
        return None
    found = decoded(data)
    if found is None:
        problems.append(_no_text(name, data))
        return None
    if found.encoding != "utf-8":
        sure = "look whether its accents are right, or" if found.guessed else "nothing to do, or"
        told = f"is not UTF-8 text: it was read as {found.encoding}"
        where = f"{name}:{_first_odd_line(data)}" if found.guessed else name
        problems.append(Problem(where, "warning", told, f"{sure} save the file as UTF-8"))
    return tidied(found.text)


def _no_text(name: str, data: bytes) -> Problem:
    """Why these bytes are no text."""
    zeros = data.count(0)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        holds = ": it holds zero bytes, as programs and pictures do" if zeros else ""
        remedy = "save the file as UTF-8" if not zeros else "save its text as UTF-8, or remove the file"
        return Problem(name, "error", f"is not UTF-8 text, nor any other{holds}", remedy)
    line = data.count(b"\n", 0, data.index(0)) + 1
    found = "a zero byte (NUL)" if zeros == 1 else f"{zeros} zero bytes (NUL), the first"
    return Problem(
        f"{name}:{line}", "error", f"is UTF-8 with {found} in this line, which no text has",
        "look whether the text around it is whole, and save it without them from a text editor",
    )  # fmt: skip


def _first_odd_line(data: bytes) -> int:
    """The line with the first byte that is not UTF-8: there a guessed encoding can be seen."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1
    return 1
