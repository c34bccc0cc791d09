"""``charforge settings``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from charforge.settings.described import Setting, Value

WIDTH = 100


def settings(
    key: Annotated[
        str | None, typer.Argument(help="a section such as sft, or one setting such as sft.steps; all unless given")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="also say what each setting has in this preset, and in which file it stands")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Say what can be set, what each setting does, its limits and its default.

    A setting is changed for one run with `charforge train DIR --set KEY=VALUE`, and for one character in the file
    DIR/charforge.toml.

    \b
    Examples:
      charforge settings
      charforge settings sft.steps
      charforge settings grpo --preset mini --json
    """
    import sys

    from charforge.cli.output import print_json
    from charforge.resources import preset_path
    from charforge.settings.described import find_settings, preset_values, settings_rows

    rows = find_settings(key) if key is not None else list(settings_rows())
    values = preset_values(preset_path(preset)) if preset is not None else {}
    if as_json:
        print_json({"preset": preset, "settings": [_as_json(row, values.get(row.key)) for row in rows]})
    else:
        sys.stdout.write(settings_text(rows, values) + "\n")


def settings_text(rows: Sequence[Setting], values: Mapping[str, Value]) -> str:
    """The settings for a person, section by section; with ``values`` what a preset makes of them."""
    import textwrap

    from charforge.settings.described import sections

    about, parts, section = sections(), [], ""
    for row in rows:
        if row.section != section:
            section = row.section
            parts.append(f"[{section}]\n{textwrap.fill(about[section], WIDTH)}")
        words = row.description if row.decides else f"{row.description} May be changed while a run goes on."
        lines = [_headline(row, values.get(row.key)), f"  {row.allowed}"]
        parts.append("\n".join([*lines, textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="  ")]))
    return "\n\n".join(parts)


def _headline(row: Setting, value: Value | None) -> str:
    from charforge.settings.described import in_toml

    if value is None:
        return f"{row.key} = {in_toml(row.default)}"
    if value.file is None:
        return f"{row.key} = {in_toml(value.value)}  (default)"
    return f"{row.key} = {in_toml(value.value)}  (in {value.file.name}; default {in_toml(row.default)})"


def _as_json(row: Setting, value: Value | None) -> dict[str, object]:
    entry: dict[str, object] = {
        "key": row.key,
        "allowed": row.allowed,
        "default": row.default,
        "decides_result": row.decides,
        "description": row.description,
    }
    if value is not None:
        entry |= {"value": value.value, "file": str(value.file) if value.file is not None else None}
    return entry
