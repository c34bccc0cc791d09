"""``charforge push`` and ``charforge pull``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Repository = Annotated[str, typer.Argument(metavar="USER/NAME", help="the repository on the model hub")]


def push(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE|RUN", help="a .charx bundle, or the folder of a run")],
    repository: Repository,
    public: Annotated[bool, typer.Option("--public", help="for everybody; a new repository is private else")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="upload what is listed without asking")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would be uploaded, and leave")] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(help="leave out pictures, facts, dialogues, evaluation or settings; may be repeated"),
    ] = None,
) -> None:
    """Upload a character to the model hub: the bundle, the adapter for peft, a model card. Listed first, private.

    Training pictures, pairs and the run's pages are never among it.

    \b
    Examples:
      charforge push wren.charx ann/wren --dry-run
      charforge push runs/wren ann/wren --without facts --yes
    """
    from charforge.bundle import read_bundle
    from charforge.cli.output import say
    from charforge.errors import InputError
    from charforge.export.folders import write_peft
    from charforge.export.hub import SUFFIX, listed, repository_of, upload
    from charforge.export.parts import renewed, write_again
    from charforge.export.parts import without as left_out
    from charforge.files import temporary_folder
    from charforge.run.folder import bundle_of
    from charforge.words import file_stem

    to = repository_of(repository)
    bundle = left_out(renewed(read_bundle(bundle_of(source))), without or [])
    with temporary_folder() as folder:
        name = file_stem(bundle.manifest.character.name) + SUFFIX
        write_again(folder / name, bundle)
        write_peft(folder, bundle, {}, name)
        say(f"to {to} ({'public' if public else 'private'}):")
        for one in listed(folder):
            say(f"  {one.bytes / 1e6:9.2f} MB  {one.name}")
        if Path(bundle.manifest.base.name).is_absolute():
            say(f"the bundle names its base by the path {bundle.manifest.base.name}: others will read that")
        if dry_run:
            return
        if not yes:
            if not sys.stdin.isatty():
                raise InputError("nothing was uploaded: look at the list and run it again with --yes")
            typer.confirm("upload these files?", abort=True, err=True)
        address = upload(folder, to, private=not public)
    say(f"uploaded: {address}. Talk to it: charforge chat hf:{to}")


def pull(
    repository: Repository,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="the file to write; NAME.charx here unless given")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="commit, branch or tag instead of the newest")] = None,
) -> None:
    """Fetch a character from the model hub and check it: a bundle like any other.

    \b
    Examples:
      charforge pull ann/wren
      charforge pull ann/wren -o characters/wren.charx
    """
    from charforge.bundle import read_bundle
    from charforge.bundle.signature import check_unsigned
    from charforge.cli.output import say
    from charforge.export.hub import SUFFIX, fetch_bundle, repository_of
    from charforge.files import check_output, write_atomic
    from charforge.words import file_stem, printable_line

    name = repository_of(repository)
    target = out or Path(file_stem(name.partition("/")[2]) + SUFFIX)
    check_output(target, "-o")
    check_unsigned(target)
    fetched = fetch_bundle(name, revision)
    manifest = read_bundle(fetched).manifest
    write_atomic(target, fetched.read_bytes())
    say(f"wrote {target}: {printable_line(manifest.character.name)}. Talk to it: charforge chat {target}")
