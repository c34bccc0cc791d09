"""Is this folder a base? Judged from configuration files and headers alone: milliseconds, no tensor data."""

from __future__ import annotations

from pathlib import Path

from charforge.errors import InputError
from charforge.families import family_of
from charforge.families.protocol import BaseFiles


def check_folder(folder: Path, name: str) -> BaseFiles:
    """The files of ``folder``, when it is a complete and well-formed base in the layout of its family.

    Every key has to be there once, with the shape that the configuration implies and a floating dtype; files have to
    be as long as their headers promise; the tokenizer has to be readable.
    Raises InputError in one sentence that names what is missing or wrong.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of a checkpoint in the official layout")
    family = family_of(folder)
    files = family.files(name, folder)
    family.check(files)
    return files
