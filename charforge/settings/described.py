"""Every setting as a row: its key, type, limits, default and description, and where a preset has its value from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from charforge.errors import InputError
from charforge.settings.presets import dotted, merged, read_layers
from charforge.settings.reading import REMEDY, checked
from charforge.settings.section import NEUTRAL
from charforge.settings.sections import Settings

_TYPES = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


@dataclass(frozen=True)
class Setting:
    """One setting. ``allowed`` is its type with its limits, in words; ``decides`` whether it decides the result of a
    run: where it does not, it may be changed while a run goes on.
    """

    key: str
    allowed: str
    default: Any
    description: str
    decides: bool

    @property
    def section(self) -> str:
        """The table it stands in ("sft"); empty for what stands above all tables."""
        return self.key.rpartition(".")[0]


@dataclass(frozen=True)
class Value:
    """What a setting has in a preset. ``file`` is the preset file that says so, None where it is the default."""

    value: Any
    file: Path | None


def sections(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, str]:
    """The sections by name, each with its description, in the order of the model."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if (inner := _section(field)) is not None:
            found |= {prefix + name: field.description or "", **sections(inner, f"{prefix}{name}.")}
    return found


def settings_rows(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Setting]:
    """Every setting, in the order of the model."""
    for name, field in model.model_fields.items():
        if (inner := _section(field)) is not None:
            yield from settings_rows(inner, f"{prefix}{name}.")
        else:
            yield Setting(
                prefix + name, _allowed(field), field.default, field.description or "", NEUTRAL not in field.metadata
            )
    if model.model_config.get("extra") == "allow":
        # kinds of samples that have been added to the table and have no field of their own
        for name, count in (model().model_extra or {}).items():
            step = "study step" if name.startswith("study_") else "step"
            what = f"How many samples of the kind {name.removeprefix('study_')} a {step} takes."
            yield Setting(prefix + name, "whole number, at least 0", count, what, True)


def find_settings(key: str) -> list[Setting]:
    """The settings of one section ("sft"), or the one of that name ("sft.steps"). Raises InputError with near names."""
    rows = list(settings_rows())
    found = [row for row in rows if row.key == key or row.key.startswith(f"{key}.")]
    if not found:
        names = [*(row.key for row in rows), *sections()]
        # somebody who remembers the last part only is answered too
        near = [name for name in names if name.rpartition(".")[2] == key] or difflib.get_close_matches(key, names, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else REMEDY
        raise InputError(f"there is no setting or section {key!r}: {hint}")
    return found


def preset_values(preset: Path) -> dict[str, Value]:
    """The value of every setting in ``preset``, and the file that it stands in. Raises InputError as reading does."""
    layers = read_layers(preset)
    resolved = dotted(checked(Settings, merged(layers), REMEDY).model_dump())
    origins = {key: layer.file for layer in layers for key in dotted(layer.data)}
    return {key: Value(value, origins.get(key)) for key, value in resolved.items()}


def in_toml(value: Any) -> str:
    """A value as it is written in a preset; "none" for one that is left out there."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _allowed(field: FieldInfo) -> str:
    """Type and limits of a field in words: "whole number, at least 1, at most 512"."""
    limits = []
    for constraint in field.metadata:
        limits += [
            f"{words} {getattr(constraint, name):g}" for name, words in _LIMITS.items() if hasattr(constraint, name)
        ]
    return ", ".join([_in_words(field.annotation), *limits])


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_in_words(one) for one in get_args(kind) if one is not NoneType) + ", or left out"
    return _TYPES[kind]
