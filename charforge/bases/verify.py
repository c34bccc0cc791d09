"""Is this folder a base? Judged from configuration files and headers alone: milliseconds, no tensor data."""

from __future__ import annotations

from pathlib import Path

from charforge.bases.where import BaseFiles, folder_files
from charforge.errors import InputError
from charforge.families.bagel.checkpoint import autoencoder_shapes, model_shapes
from charforge.families.bagel.config import read_config
from charforge.families.bagel.stream import plan
from charforge.families.bagel.tokenizer import Tokenizer


def check_folder(folder: Path, name: str) -> BaseFiles:
    """The files of ``folder``, when it is a complete and well-formed base in the official layout.

    Every key has to be there once, with the shape that the configuration implies and a floating dtype; files have to
    be as long as their headers promise; the tokenizer has to be readable.
    Raises InputError in one sentence that names what is missing or wrong.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the folder of a checkpoint in the official layout")
    files = folder_files(name, folder)
    config = read_config(folder)
    plan(model_shapes(config), list(files.weights))
    plan(autoencoder_shapes(config), [files.autoencoder])
    Tokenizer(files.tokenizer, config.chat_roles)
    return files
