"""Where results may go: never over what a person brought."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from charforge.character.contents import CHATS
from charforge.character.listing import normal
from charforge.character.picture_folder import PLACES
from charforge.character.results import holds_pairs
from charforge.errors import InputError

READ_FOLDERS = (*PLACES, *CHATS)
READ_STEMS = ("character", "facts", "dialogues", "lorebook", "card", "annotation", "charforge", "metadata")
"""Names that the reader of a character folder looks for: a result called so would be read as the user's next time."""


def check_pairs_outputs(folder: Path, out: Path, others: Sequence[Path]) -> None:
    """Refuse to write pairs to ``out`` and ``others`` (named after it) where files of ``folder`` are or are looked for.

    Pairs that an earlier run wrote may be replaced, also inside the folder. Raises InputError.
    """
    if out in others:
        raise InputError(f"--out {out}: the page to look through would have this name; name a file that ends in .jsonl")
    again = holds_pairs(out)
    inputs = [path for path in folder.rglob("*") if path.is_file()]
    for path in (out, *others):
        over = _same_file(path, inputs)
        if over is not None and not again:
            raise InputError(
                f"--out {out}: {path.name} would lie on {over}, which belongs to the character; "
                "name a place outside the character's folder"
            )
    if again:
        return
    inside = _inside(folder, out)
    if inside is not None and (is_read_folder(inside) or normal(out.stem).casefold() in READ_STEMS):
        raise InputError(
            f"--out {out}: it lies in the character's folder, where a file of that name is read as the character's "
            "own; name a place outside"
        )


def check_run_folder(folder: Path, run: Path) -> None:
    """Refuse a run folder among the character's pictures or chats. Raises InputError."""
    inside = _inside(folder, run)
    if inside is not None and (inside == Path() or is_read_folder(inside / "x")):
        raise InputError(f"--out {run}: the files of the character lie there; name a folder of its own for the run")


def check_over_inputs(out: Path, inputs: Iterable[Path], option: str = "--out") -> None:
    """Refuse an output that is one of the files a command reads, through links and in any case. Raises InputError."""
    over = _same_file(out, inputs)
    if over is not None:
        raise InputError(f"{option} {out}: it would lie on {over}, which is read; name another file")


def is_read_folder(inside: Path) -> bool:
    """Whether a path relative to the character folder leads into its pictures or chats."""
    return len(inside.parts) > 1 and normal(inside.parts[0]).casefold() in READ_FOLDERS


def _same_file(path: Path, inputs: Iterable[Path]) -> Path | None:
    """The input that ``path`` is, by another name or through a link; or would be where case does not count."""
    name = normal(path.name).casefold()
    there = path.exists()
    for one in inputs:
        if there and one.samefile(path):
            return one
        if normal(one.name).casefold() == name and _same_folder(one.parent, path.parent):
            return one
    return None


def _same_folder(one: Path, other: Path) -> bool:
    return other.is_dir() and one.samefile(other)


def _inside(folder: Path, path: Path) -> Path | None:
    """``path`` relative to ``folder``, links followed; None when it lies elsewhere."""
    real, root = path.resolve(), folder.resolve()
    return real.relative_to(root) if real.is_relative_to(root) else None
