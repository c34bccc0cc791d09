"""Preset, overrides of the character folder, assignments and options -> one checked :class:`Settings`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError

from charforge.errors import InputError
from charforge.settings.presets import EXTENDS, merge, merged, read_layers, read_toml
from charforge.settings.section import NEUTRAL
from charforge.settings.sections import Settings

Checked = TypeVar("Checked", bound=BaseModel)
REMEDY = "`charforge settings` lists the settings there are."


def read_settings(preset: Path, folder_overrides: Path | None, assignments: list[str], **explicit: object) -> Settings:
    """Preset file with those that it extends, then the character folder's ``charforge.toml``, then ``key=value``
    assignments, then options.

    Raises InputError naming the file or the assignment that is wrong.
    """
    data = merged(read_layers(preset))
    merge(data, given_settings(folder_overrides, assignments, **explicit))
    return checked(Settings, data, REMEDY)


def settings_of_run(file: Path) -> Settings:
    """The settings with which a run was begun, from its ``config.toml``. Raises InputError where this version cannot
    read them, and says what becomes of the run."""
    begin_anew = (
        "train anew, with another --out or with `charforge train --restart`, which keeps the old folder under another "
        "name"
    )
    try:
        data = merged(read_layers(file))
    except InputError as error:
        raise InputError(f"{error}. Put back a copy of it, or {begin_anew}") from error
    try:
        return checked(Settings, data, "")
    except InputError as error:
        why = str(error).rstrip(". ")
        raise InputError(
            f"{file} is of another version of charforge, or was changed by hand ({why}): use the run with the version "
            f"that made it, put back a copy of the file, or {begin_anew}"
        ) from error


def given_settings(folder_overrides: Path | None, assignments: list[str], **explicit: object) -> dict[str, Any]:
    """What the user gave beside the preset, in the order of :func:`read_settings`, not yet checked."""
    data: dict[str, Any] = {}
    if folder_overrides is not None and os.path.lexists(folder_overrides):
        merge(data, read_toml(folder_overrides))
        if EXTENDS in data:
            raise InputError(
                f"{folder_overrides}: only a preset extends another. Leave the line out, and name the preset when you "
                "train: --preset NAME, or the path of a .toml file of your own"
            )
    merge(data, read_assignments(assignments))
    merge(data, {key: value for key, value in explicit.items() if value is not None})
    return data


def deciding(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """The settings that decide the result, by their dotted names: all but those marked :data:`Neutral`."""
    values: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            values |= deciding(value, f"{prefix}{name}.")
        elif NEUTRAL not in field.metadata:
            values[prefix + name] = value
    return values | {prefix + name: value for name, value in (settings.model_extra or {}).items()}


def read_assignments(assignments: list[str]) -> dict[str, Any]:
    """``key=value`` with TOML values and dotted keys as one nested dictionary; later ones win."""
    data: dict[str, Any] = {}
    for assignment in assignments:
        merge(data, _parse_assignment(assignment))
    return data


def checked(model: type[Checked], data: dict[str, Any], remedy: str) -> Checked:
    """``data`` as ``model``; raises InputError that names the first wrong setting and ends with ``remedy``."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(f"there is no setting {key}. {remedy}") from error
        # the sentence of a check of our own comes as it was written, behind these words
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"setting {key}: {problem[:1].lower()}{problem[1:]}. {remedy}") from error


def settings_toml(settings: Settings) -> str:
    """The resolved settings as TOML."""
    # TOML has no null: what is left out is read as its default, and that is None wherever None is allowed
    return tomli_w.dumps(settings.model_dump(exclude_none=True))


def _parse_assignment(assignment: str) -> dict[str, Any]:
    key, found, value = assignment.partition("=")
    if not found or not key.strip():
        raise InputError(f"--set {assignment}: write it as key=value, for example sft.steps=300")
    try:
        parsed: object = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    assert isinstance(parsed, dict)
    return parsed
