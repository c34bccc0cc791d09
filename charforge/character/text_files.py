"""Reading the user's files: only inside the folder, only sane sizes, only UTF-8."""

from __future__ import annotations

from pathlib import Path

from charforge.errors import Problem

MAX_TEXT_BYTES = 8 * 1024 * 1024


def shown(folder: Path, path: Path) -> str:
    """The path as the table shows it: relative to the character folder."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


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
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(f"{name}:{line}", "error", "is not UTF-8 text", "save the file as UTF-8"))
        return None
    if "\x00" in text:
        # UTF-16 without its mark decodes as UTF-8 full of NULs
        problems.append(Problem(name, "error", "is not UTF-8 text", "save the file as UTF-8"))
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
