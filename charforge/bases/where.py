"""Which bases there are and which files make each: ``mini``, ``bagel``, registered copies, folders. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from charforge.bases.cache import base_folder, cache_folder
from charforge.bases.hashes import content_hash
from charforge.bases.language import language_folder
from charforge.errors import InputError, MachineError
from charforge.families import FAMILIES, family_of
from charforge.families.protocol import BaseFiles, Family, Shapes
from charforge.files import write_atomic
from charforge.progress import byte_progress

MINI = Path(__file__).parent / "mini"
# the vision table and the drawing side of `mini`; the language weights come from the user's cache
MINI_FILES = ("generation.safetensors", "vision.safetensors")
# what answering questions about pictures adds to the language weights (charforge/recipe/answers.py)
MINI_READING = MINI / "reading.safetensors"
# written last by a pull: with it, every file beside it is complete and checked
SOURCE = "charforge_source.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def hash_here(name: str) -> str | None:
    """The :func:`~charforge.bases.hashes.content_hash` of the base ``name``; None where a file of it is missing.

    Raises as :func:`find_base`.
    """
    files = list(find_base(name).identity)
    if not all(file.is_file() for file in files):
        return None
    with byte_progress(f"checking {name}") as report:
        return content_hash(files, report)


def find_base(name: str) -> BaseFiles:
    """The files of ``mini``, ``bagel``, a registered name or a folder in the official layout.

    The language weights of ``mini`` are named, not fetched. Raises InputError for a name that means nothing or a
    folder that lacks a file, MachineError for a known base that is not here (yet).
    """
    if name == "mini":
        language = language_folder()
        weights = (language / "language.safetensors", *(MINI / file for file in MINI_FILES))
        tokenizer = language / "tokenizer.json"
        return BaseFiles(name, MINI, weights, MINI / "autoencoder.safetensors", tokenizer, (MINI_READING,))
    if name == "bagel" and pulled("bagel"):
        _check_pulled(name)
        return folder_files(name, base_folder(name))
    if name in registered():
        folder = registered()[name]
        if not folder.is_dir():
            raise MachineError(
                f"the base {name} was registered in {folder}, which is no longer there: mount it, or register another "
                f"copy with `charforge base add FOLDER --name {name}`"
            )
        return folder_files(name, folder)
    if name == "bagel":
        raise MachineError(_how_to_get_bagel())
    if Path(name).is_dir():
        return folder_files(name, Path(name))
    known = ", ".join(["mini", "bagel", *sorted(set(registered()) - {"bagel"})])
    raise InputError(
        f"there is no base named {name!r}: use mini, or another of {known}, or the folder of a checkpoint in the "
        "official layout"
    )


def base_family(name: str) -> Family:
    """The family of a base. Raises as :func:`find_base` does."""
    if _is_only_known(name):
        return next(family for family in FAMILIES if family.published(name) is not None)
    return family_of(_config_folder(name))


def base_shapes(name: str) -> Shapes:
    """The shapes of a base; those of ``bagel`` are known before it is here. Raises as :func:`find_base` does."""
    family = base_family(name)
    shapes = family.published(name) if _is_only_known(name) else family.read_shapes(_config_folder(name))
    assert shapes is not None
    return shapes


def _is_only_known(name: str) -> bool:
    """Whether a base is known by name and not here."""
    known = any(family.published(name) is not None for family in FAMILIES)
    return known and not pulled(name) and name not in registered()


def _config_folder(name: str) -> Path:
    return MINI if name == "mini" else find_base(name).config_folder


def folder_files(name: str, folder: Path) -> BaseFiles:
    """The files of ``folder`` in its family's layout. Raises InputError naming the one that is missing."""
    return family_of(folder).files(name, folder)


def pulled(name: str) -> bool:
    """Whether a pull of ``name`` has been completed."""
    return (base_folder(name) / SOURCE).is_file()


def read_source(folder: Path) -> dict[str, Any] | None:
    """What a completed pull wrote down: ``repository``, ``commit``, ``files``; None where it is absent or damaged."""
    try:
        source = json.loads((folder / SOURCE).read_text("utf-8"))
        complete = isinstance(source["commit"], str) and all("bytes" in entry for entry in source["files"].values())
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return source if complete else None


def changed_files(folder: Path, source: dict[str, Any]) -> list[str]:
    """The files of a pulled base that are gone or have another size than when they were checked."""
    sizes = {name: entry["bytes"] for name, entry in source["files"].items()}
    return sorted(
        name for name, size in sizes.items() if not (folder / name).is_file() or (folder / name).stat().st_size != size
    )


def _check_pulled(name: str) -> None:
    folder = base_folder(name)
    source = read_source(folder)
    changed = [SOURCE] if source is None else changed_files(folder, source)
    if changed:
        raise MachineError(
            f"the base {name} in {folder} is damaged ({', '.join(changed)}): mend it with `charforge base pull {name}`"
        )


def _how_to_get_bagel() -> str:
    begun = base_folder("bagel").is_dir()
    return (
        "the base bagel is "
        + ("not complete: go on with `charforge base pull bagel`" if begun else "not here: `charforge base pull bagel`")
        + (" " if begun else " fetches it (30 GB) ")
        + "or, if you have a copy, `charforge base add FOLDER --name bagel`"
    )


# the registry of copies that are somewhere else on this machine


def registered() -> dict[str, Path]:
    """Folder by name of every registered copy. Raises InputError when the registry cannot be read."""
    file = _registry_file()
    if not file.exists():
        return {}
    try:
        return {str(name): Path(folder) for name, folder in json.loads(file.read_text("utf-8")).items()}
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise InputError(f"{file} is damaged: delete it and register your bases again") from error


def register(folder: Path, name: str) -> None:
    """Remember ``folder`` as the base ``name``; nothing is copied.

    Raises InputError for a name that is taken or unusable. Registering the same folder again is fine.
    """
    folder = folder.resolve()
    if not _NAME.fullmatch(name) or name == "mini":
        raise InputError(f"{name!r} cannot be the name of a base: pass --name with letters, digits, - _ and .")
    if name == "bagel" and pulled(name):
        raise InputError(f"bagel has been pulled to {base_folder(name)} already: pass another --name")
    known = registered()
    if name in known and known[name] != folder:
        raise InputError(f"the name {name} belongs to {known[name]}: pass another --name")
    entries = {key: str(path) for key, path in (known | {name: folder}).items()}
    write_atomic(_registry_file(), json.dumps(entries, indent=2, ensure_ascii=False))


def _registry_file() -> Path:
    return cache_folder() / "bases.json"
