"""``charforge base``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charforge.cli.options import speaking

if TYPE_CHECKING:
    from charforge.bases.listing import Listed

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The models that characters are trained on.\n\n"
    "\b\nExamples:\n  charforge base list\n  charforge base pull bagel",
)

Json = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


@app.command("list")
@speaking
def list_bases(as_json: Json = False) -> None:
    """Which bases are here, where, how big, and what they can run in.

    \b
    Examples:
      charforge base list
      charforge base list --json
    """
    from charforge.bases.listing import list_bases
    from charforge.cli.output import print_json

    found = list_bases()
    if as_json:
        print_json([one.as_json() for one in found])
    else:
        _print_table(found)


@app.command("pull")
@speaking
def pull(
    name: Annotated[str, typer.Argument(help="mini or bagel")] = "mini",
    revision: Annotated[
        str | None, typer.Option(help="commit, branch or tag of bagel's repository instead of the pinned commit")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a base: mini's language weights (98 MB) or bagel (30 GB). Interrupted, it goes on where it stopped.

    \b
    Examples:
      charforge base pull
      charforge base pull bagel
    """
    from charforge.bases.listing import describe
    from charforge.errors import InputError

    if name == "bagel":
        from charforge.bases.hub import pull_base

        folder = pull_base(revision=revision)
    elif name == "mini" and revision is None:
        from charforge.bases.language import ensure_language_weights

        folder = ensure_language_weights()
    elif name == "mini":
        raise InputError("mini comes with charforge and has no --revision; leave it out")
    else:
        raise InputError(
            f"base {name!r} cannot be fetched; there are mini and bagel. A checkpoint that you have is registered "
            "with `charforge base add FOLDER`"
        )
    _print_ready(describe(name, folder), as_json)


@app.command("add")
@speaking
def add(
    folder: Annotated[Path, typer.Argument(help="a checkpoint in the official layout, one file or shards")],
    name: Annotated[str | None, typer.Option(help="how to call it; the folder's name unless given")] = None,
    as_json: Json = False,
) -> None:
    """Register a checkpoint that is already on this machine; nothing is copied. Checks that it is complete.

    \b
    Examples:
      charforge base add /data/BAGEL-7B-MoT --name bagel
      charforge base add ./my-finetune --json
    """
    from charforge.bases.listing import describe
    from charforge.bases.verify import check_folder
    from charforge.bases.where import register

    called = name or folder.resolve().name
    check_folder(folder, called)
    register(folder, called)
    _print_ready(describe(called, folder.resolve()), as_json)


def _print_ready(one: Listed, as_json: bool) -> None:
    from charforge.cli.output import print_json, say

    if as_json:
        print_json(one.as_json())
    else:
        say(f"{one.name} is {one.status} in {one.path}")


def _print_table(found: list[Listed]) -> None:
    from rich.table import Table
    from rich.text import Text

    from charforge.cli.output import say, show
    from charforge.words import printable

    table = Table(show_lines=False)
    for column in ("base", "status", "parameters", "on disk", "stored as", "runs in"):
        table.add_column(column, no_wrap=column != "stored as")
    for one in found:
        parameters = f"{one.parameters / 1e9:.2f} B" if one.parameters else ""
        size = f"{one.bytes / 1e9:.2f} GB" if one.bytes else ""
        # names and paths are the user's: never markup
        cells = (parameters, size, ", ".join(one.stored), ", ".join(one.precisions))
        table.add_row(Text(printable(one.name)), one.status, *cells)
    show(table)
    for one in found:
        say(f"{one.name}: {one.missing or one.path}")
