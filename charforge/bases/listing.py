"""What ``charforge base list`` says of each base: read from file names and headers, without torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from charforge.bases.cache import base_folder
from charforge.bases.language import FILES, language_folder
from charforge.bases.where import BaseFiles, find_base, pulled, registered
from charforge.errors import CharforgeError
from charforge.families import family_of
from charforge.tensor_headers import StoredTensor, read_header


@dataclass(frozen=True)
class Listed:
    """``status`` is ready, incomplete or not fetched; ``missing`` says what is. ``bytes`` on disk, 0 if not here.

    ``parameters`` are those of the model without the autoencoder, ``stored`` the dtypes they are stored in, most
    bytes first, ``precisions`` what the base can run in.
    """

    name: str
    path: str
    status: str
    missing: str | None = None
    bytes: int = 0
    parameters: int | None = None
    stored: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ready": self.status == "ready"}


def list_bases() -> list[Listed]:
    """``mini``, ``bagel`` and every registered copy. Raises InputError when the registry is damaged."""
    others = {name: folder for name, folder in sorted(registered().items()) if name != "bagel"}
    return [_mini(), _bagel(), *(describe(name, folder) for name, folder in others.items())]


def _mini() -> Listed:
    folder = language_folder()
    if not all((folder / name).exists() for name in FILES):
        return Listed("mini", str(folder), "not fetched", "its language weights are fetched on first use (98 MB)")
    return describe("mini", folder)


def _bagel() -> Listed:
    folder = base_folder("bagel")
    if pulled("bagel") or "bagel" not in registered():
        here = folder.is_dir()
        if not here:
            return Listed("bagel", str(folder), "not fetched", "`charforge base pull bagel` fetches it (30 GB)")
        return describe("bagel", folder)
    return describe("bagel", registered()["bagel"])


def describe(name: str, folder: Path) -> Listed:
    """One base that ought to be here."""
    try:
        files = find_base(name)
        shapes = family_of(files.config_folder).read_shapes(files.config_folder)
        tensors = [tensor for file in files.weights for tensor in read_header(file).values()]
        if files.autoencoder is not None:
            read_header(files.autoencoder)
    except CharforgeError as error:
        return Listed(name, str(folder), "incomplete", str(error), _folder_bytes(folder))
    return Listed(
        name,
        str(folder),
        "ready",
        None,
        _files_bytes(files),
        _parameters(tensors),
        _stored(tensors),
        shapes.precisions,
    )


def _parameters(tensors: list[StoredTensor]) -> int:
    # an int8 matrix has the scale of its rows beside it, which is no parameter
    return sum(tensor.elements for tensor in tensors if not tensor.name.endswith(".row_scale"))


def _stored(tensors: list[StoredTensor]) -> tuple[str, ...]:
    lengths: Counter[str] = Counter()
    for tensor in tensors:
        lengths[tensor.dtype] += tensor.length
    return tuple(dtype for dtype, _ in lengths.most_common())


def _files_bytes(files: BaseFiles) -> int:
    return sum(file.stat().st_size for file in (*files.identity, files.tokenizer))


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
