"""``charforge export``"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from charforge.bundle import Bundle


class Precision(StrEnum):
    """What whole weights can be written in."""

    BF16 = "bf16"
    FP8 = "fp8"


def export(
    source: Annotated[Path, typer.Argument(metavar="BUNDLE|RUN", help="a .charx bundle, or the folder of a run")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="the file to write; NAME.charx here unless given")
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="a character card: a PNG that any front end reads")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="a character card as JSON; on stdout unless -o names a file")
    ] = False,
    peft: Annotated[
        Path | None, typer.Option(help="a new folder for stock peft, with a model card: ready for the model hub")
    ] = None,
    merged: Annotated[
        Path | None, typer.Option(help="a new folder with the whole model, the adapter inside its weights")
    ] = None,
    dtype: Annotated[Precision, typer.Option(help="with --merged: what its weights are stored in")] = Precision.BF16,
    rank: Annotated[
        int | None, typer.Option(min=1, help="make the adapter smaller: of this rank; what that costs is told")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="leave out pictures, facts, dialogues, evaluation or settings; may be repeated"),
    ] = None,
) -> None:
    """Write a character for others: a bundle, a card, a folder for peft, or the whole model.

    Everything is checked before, and no training picture is ever in it.

    \b
    Examples:
      charforge export runs/wren --rank 8 -o wren-small.charx
      charforge export wren.charx --card -o wren.png
      charforge export wren.charx --peft wren-peft
    """
    from charforge.bundle import read_bundle
    from charforge.cli.output import say
    from charforge.errors import InputError
    from charforge.export.parts import renewed, with_rank
    from charforge.export.parts import without as left_out
    from charforge.run.folder import bundle_of

    forms = [
        name
        for name, chosen in (("--card", card), ("--json", as_json), ("--peft", peft), ("--merged", merged))
        if chosen
    ]
    if len(forms) > 1:
        raise typer.BadParameter(f"{' and '.join(forms)} are two results: ask for one at a time")
    if out is not None and (peft or merged):
        raise InputError(f"{forms[0]} names its own folder: leave -o out")
    if dtype is not Precision.BF16 and merged is None:
        raise InputError("--dtype is of --merged alone: leave it out")
    path = bundle_of(source)
    bundle = left_out(renewed(read_bundle(path)), without or [])
    if rank is not None:
        own = bundle.manifest.adapter.rank
        bundle, reduction = with_rank(bundle, rank)
        say(
            f"rank {own} to {rank}: {100 * reduction.lost:.1f} % of the adapter's change is lost, "
            f"{100 * reduction.most_lost:.1f} % where most is ({reduction.where.removeprefix('base_model.model.')})"
        )
    if merged is not None:
        _write_merged(merged, bundle, dtype)
    elif peft is not None:
        _write_peft(peft, bundle, source, without or [])
    else:
        _write_file(out, bundle, path, card, as_json)


def _write_file(out: Path | None, bundle: Bundle, path: Path, card: bool, as_json: bool) -> None:
    from charforge.character.cards.write import card_json, card_png
    from charforge.character.outputs import check_over_inputs
    from charforge.cli.output import print_json, say
    from charforge.errors import InputError
    from charforge.export.parts import write_again
    from charforge.files import check_output, write_atomic
    from charforge.words import file_stem

    if as_json and out is None:
        print_json(bundle.card)
        return
    suffix = ".png" if card else ".json" if as_json else ".charx"
    out = out or Path(file_stem(bundle.manifest.character.name) + suffix)
    if out.suffix.lower() != suffix:
        raise InputError(f"-o {out}: this result is a {suffix} file; name one that ends so")
    check_output(out, "-o")
    check_over_inputs(out, [path], "-o")
    if card or as_json:
        # the picture is the file itself, and nothing else of the bundle is there
        plain = {**bundle.card, "data": {**bundle.card["data"], "assets": _assets_of_card(card)}}
        write_atomic(out, card_png(plain, bundle.avatar()) if card else card_json(plain))
    else:
        write_again(out, bundle)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB)")


def _assets_of_card(picture: bool) -> list[dict[str, str]]:
    return [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}] if picture else []


def _write_peft(folder: Path, bundle: Bundle, source: Path, without: list[str]) -> None:
    from charforge.cli.output import say
    from charforge.export.folders import check_folder, write_peft

    check_folder(folder, "--peft")
    # drawn by the model, with and without the adapter: no training picture is on it
    sheet = source / "before_after.png"
    pictures = {sheet.name: sheet.read_bytes()} if sheet.is_file() and "pictures" not in without else {}
    write_peft(folder, bundle, pictures)
    say(f"wrote {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _write_merged(folder: Path, bundle: Bundle, dtype: Precision) -> None:
    from charforge.cli.output import say
    from charforge.export.folders import check_folder, write_merged
    from charforge.progress import byte_progress

    check_folder(folder, "--merged")
    with byte_progress("merging") as report:
        write_merged(folder, bundle, dtype.value, report)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"wrote {folder} ({size / 1e9:.2f} GB)")
