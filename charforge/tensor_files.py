"""Our own safetensors files: written atomically, and read back with a sentence when they are damaged."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from charforge.errors import InputError
from charforge.files import write_atomic_with

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write ``state`` to ``path`` atomically. Raises OSError, also where the library has an error of its own."""

    def write(temporary: Path) -> None:
        try:
            save_file(state, temporary, metadata)
        except SafetensorError as error:
            # the library keeps the system's error in its text alone
            number = _OS_ERROR.search(str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error), str(path)) from error

    write_atomic_with(path, write)


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of ``path`` and its metadata. Raises InputError that ends with ``remedy`` when it is damaged."""
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or cannot be read: {remedy}") from error
