"""Presets and examples: at the top of a checkout, inside the package after an install."""

from __future__ import annotations

from pathlib import Path

from charforge.errors import InputError

PACKAGE = Path(__file__).parent


def resource_folder(name: str) -> Path:
    """``presets`` or ``examples``, wherever this installation keeps it."""
    installed, checkout = PACKAGE / "_data" / name, PACKAGE.parent / name
    return installed if installed.is_dir() else checkout


def preset_names() -> tuple[str, ...]:
    """The presets of this installation."""
    return tuple(sorted(path.stem for path in resource_folder("presets").glob("*.toml")))


def preset_path(name: str) -> Path:
    """The file of a preset by name, or ``name`` itself when it is a .toml path. Raises InputError with the names."""
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise InputError(f"preset file {name} does not exist")
        return Path(name)
    path = resource_folder("presets") / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"there is no preset {name!r}; there are: {', '.join(preset_names())}")
    return path
