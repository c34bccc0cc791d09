"""``charforge base``"""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The models that characters are trained on.", rich_markup_mode=None)


@app.command("list")
def list_bases(
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Which bases are here.

    \b
    Examples:
      charforge base list
      charforge base list --json
    """
    from charforge.bases.language import FILES, cache_folder
    from charforge.cli.output import print_json, say

    folder = cache_folder() / "smollm2-135m-instruct"
    ready = all((folder / name).exists() for name in FILES)
    if as_json:
        print_json([{"name": "mini", "ready": ready, "cache": str(folder)}])
    else:
        say(f"mini   {'ready' if ready else 'language weights are fetched on first use (98 MB)'}   {folder}")


@app.command("pull")
def pull(name: Annotated[str, typer.Argument(help="mini")] = "mini") -> None:
    """Fetch a base now instead of on first use.

    \b
    Examples:
      charforge base pull
      charforge base pull mini
    """
    from charforge.bases.language import ensure_language_weights
    from charforge.cli.output import say
    from charforge.errors import InputError

    if name != "mini":
        raise InputError(f"base {name!r} cannot be fetched yet; mini is the one there is")
    say(f"mini is ready in {ensure_language_weights()}")
