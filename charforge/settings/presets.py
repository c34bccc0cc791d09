"""Preset files: each holds only what differs from the preset that it ``extends``, or from the built-in defaults."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charforge.errors import InputError
from charforge.resources import preset_path

EXTENDS = "extends"


@dataclass(frozen=True)
class Layer:
    """One preset file and the settings that stand in it, nested as in the file, without ``extends``."""

    file: Path
    data: dict[str, Any]


def read_layers(preset: Path) -> list[Layer]:
    """``preset`` and every preset that it extends, directly or through others, the most general first.

    ``extends = "bagel"`` names a preset of charforge, ``extends = "mine.toml"`` a file, from the folder of the file
    that says so. Raises InputError naming the file where one is missing, is no text, or extends itself.
    """
    layers: list[Layer] = []
    file: Path | None = preset
    while file is not None:
        if any(file.resolve() == layer.file.resolve() for layer in layers):
            way = " -> ".join(layer.file.name for layer in [*layers, Layer(file, {})])
            raise InputError(
                f"{layers[-1].file}: the presets extend each other in a circle ({way}): remove one `extends`"
            )
        data = read_toml(file)
        parent = data.pop(EXTENDS, None)
        layers.append(Layer(file, data))
        file = _parent(file, parent) if parent is not None else None
    return layers[::-1]


def _parent(file: Path, name: object) -> Path:
    """The file that ``file`` extends by ``name``."""
    if not isinstance(name, str):
        raise InputError(
            f'{file}: extends must be the name of a preset or of a .toml file, for example extends = "bagel"'
        )
    try:
        return preset_path(str(file.parent / name) if name.endswith(".toml") else name)
    except InputError as error:
        raise InputError(f"{file} extends {name!r}: {error}") from error


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Write the values of ``other`` over those of ``into``, table by table."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def merged(layers: list[Layer]) -> dict[str, Any]:
    """The values of all ``layers``; a later one wins."""
    data: dict[str, Any] = {}
    for layer in layers:
        merge(data, layer.data)
    return data


def dotted(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables by their dotted names: ``{"sft.steps": 70}``."""
    values: dict[str, Any] = {}
    for key, value in data.items():
        values |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file. Raises InputError saying what is wrong with it and how to mend it."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a plain file: replace it by one, or remove it")
        return tomllib.loads(path.read_text("utf-8-sig"))
    except RecursionError as error:
        raise InputError(f"{path} is not valid TOML: it is nested too deep") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): make the file readable for you") from error
