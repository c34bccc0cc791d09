"""A character folder from what another program left: a copy, and beside it a character.md that says what was unsure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from charforge.errors import InputError
from charforge.files import write_atomic

MOST_FILES, MOST_BYTES = 20_000, 20 << 30


def copy_source(source: Path, folder: Path) -> None:
    """Copy a folder, or one character card, to the new ``folder``; the source stays as it is.

    Raises InputError when the source is not there or too large, or when ``folder`` is not a new place of its own.
    """
    source, folder = source.resolve(), folder.resolve()
    if not source.exists():
        raise InputError(f"{source} does not exist: name a folder, or a character card")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder")
    if source.is_dir() and folder.is_relative_to(source):
        raise InputError(f"{folder} lies in {source}, which stays as it is: name a folder beside it")
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if len(files) > MOST_FILES or size > MOST_BYTES:
        raise InputError(f"{source} holds {len(files)} files of {size >> 20} MB: name the folder of one character")
    for path in files:
        to = folder / (path.name if source.is_file() else path.relative_to(source))
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def write_answers(folder: Path, answers: Mapping[str, str], open_questions: Mapping[str, str]) -> Path:
    """character.md with ``answers`` in its front matter, and ``open_questions`` (key: hint) as lines to fill in.

    A character.md that came with the source keeps all it says; the answers stand before it.
    """
    file = folder / "character.md"
    before = file.read_text("utf-8-sig") if file.exists() else ""
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in answers.items()]
    lines += [f"# {key}:    {hint}" for key, hint in open_questions.items()]
    if before.startswith("---\n"):
        text = "\n".join(["---", *lines, before.removeprefix("---\n")])
    else:
        text = "\n".join(["---", *lines, "---", before])
    write_atomic(file, text.rstrip() + "\n")
    return file
