"""``charforge export``"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charforge.cli.options import Device, Threads

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from charforge.bundle import Bundle
    from charforge.export.sprites import Drawing


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
    sign: Annotated[
        Path | None,
        typer.Option(
            help="a private SSH key (Ed25519): writes FILE.charx.sig beside the bundle, which `inspect` reads"
        ),
    ] = None,
    sprites: Annotated[
        Path | None,
        typer.Option(
            help="a folder in which NAME/LABEL.png are drawn: the 28 expressions of SillyTavern (its folder "
            "`characters` will do); with -o also a .charx that has them"
        ),
    ] = None,
    best_of: Annotated[
        int | None, typer.Option(min=1, max=64, help="with --sprites: draw each so often and take the best; 4")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="with --sprites: of the first drawing of each; 0")] = None,
    scene: Annotated[
        str | None,
        typer.Option(
            help='with --sprites: what is the same in all, e.g. "wearing a red coat, on a white background"; '
            "the white background alone unless given"
        ),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    dtype: Annotated[Precision, typer.Option(help="with --merged: what its weights are stored in")] = Precision.BF16,
    rank: Annotated[
        int | None, typer.Option(min=1, help="make the adapter smaller: of this rank; what that costs is told")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="leave out pictures, facts, dialogues, evaluation or settings; may be repeated"),
    ] = None,
) -> None:
    """Write a character for others: a bundle, a card, its expressions, a folder for peft, or the whole model.

    Everything is checked before, and no training picture is ever in it.

    \b
    Examples:
      charforge export wren.charx --card -o wren.png
      charforge export runs/wren --sprites characters --seed 1
      charforge export wren.charx --peft wren-peft
    """
    from charforge.bundle import read_bundle
    from charforge.bundle.signature import read_key
    from charforge.cli.output import say
    from charforge.errors import InputError
    from charforge.export.parts import renewed, with_rank
    from charforge.export.parts import without as left_out
    from charforge.run.folder import bundle_of

    forms = [
        name
        for name, chosen in (
            ("--card", card), ("--json", as_json), ("--peft", peft), ("--merged", merged), ("--sprites", sprites),
        )
        if chosen
    ]  # fmt: skip
    if len(forms) > 1:
        raise typer.BadParameter(f"{' and '.join(forms)} are two results: ask for one at a time")
    if out is not None and (peft or merged):
        raise InputError(f"{forms[0]} names its own folder: leave -o out")
    if dtype is not Precision.BF16 and merged is None:
        raise InputError("--dtype is of --merged alone: leave it out")
    if sprites is None and (best_of, seed, scene, device, threads) != (None,) * 5:
        raise InputError("--best-of, --seed, --scene, --device and --threads are of --sprites alone: leave them out")
    if sprites is not None and rank is not None:
        raise InputError(
            "--sprites are drawn by the adapter as it is: leave --rank out, or export the smaller one first"
        )
    if sign is not None and forms and (sprites is None or out is None):
        raise InputError(f"--sign is of a .charx: leave it out{', or add -o FILE.charx' if sprites else ''}")
    key = read_key(sign) if sign is not None else None
    bundle = left_out(renewed(read_bundle(bundle_of(source))), without or [])
    if rank is not None:
        own = bundle.manifest.adapter.rank
        bundle, reduction = with_rank(bundle, rank)
        say(
            f"rank {own} to {rank}: {100 * reduction.lost:.1f} % of the adapter's change is lost, "
            f"{100 * reduction.most_lost:.1f} % where most is ({reduction.where.removeprefix('base_model.model.')})"
        )
    if merged is not None:
        _write_merged(merged, bundle, dtype)
    elif sprites is not None:
        from charforge.export.faces import SCENE
        from charforge.export.sprites import Drawing
        from charforge.machine import set_threads

        set_threads(threads)
        drawing = Drawing(best_of or 4, seed or 0, scene or SCENE, bundle.manifest.base.name == "mini")
        _write_sprites(sprites, bundle, source, drawing, device, out, key)
    elif peft is not None:
        _write_peft(peft, bundle, source, without or [])
    elif card or as_json:
        _write_card(out, bundle, picture=card)
    else:
        _write_charx(out, bundle, key)


def _write_card(out: Path | None, bundle: Bundle, picture: bool) -> None:
    from charforge.character.cards.write import card_json, card_png
    from charforge.cli.output import print_json
    from charforge.files import write_atomic

    if out is None and not picture:
        print_json(bundle.card)
        return
    out = _checked_file(out, ".png" if picture else ".json", bundle)
    # the picture is the file itself, and nothing else of the bundle is there
    plain = {**bundle.card, "data": {**bundle.card["data"], "assets": _assets_of_card(picture)}}
    write_atomic(out, card_png(plain, bundle.avatar()) if picture else card_json(plain))
    _say_written(out)


def _write_charx(out: Path | None, bundle: Bundle, key: Ed25519PrivateKey | None) -> None:
    from charforge.bundle.signature import sign
    from charforge.cli.output import say
    from charforge.export.parts import write_again

    out = _checked_charx(out, bundle, key)
    write_again(out, bundle)
    _say_written(out)
    if key is not None:
        say(f"signed it with {sign(out, key).fingerprint}: send {out.name}.sig along")


def _checked_charx(out: Path | None, bundle: Bundle, key: Ed25519PrivateKey | None) -> Path:
    from charforge.bundle.signature import check_unsigned

    out = _checked_file(out, ".charx", bundle)
    if key is None:
        check_unsigned(out)
    return out


def _say_written(out: Path) -> None:
    from charforge.cli.output import say

    say(f"wrote {out} ({out.stat().st_size / 1e6:.2f} MB)")


def _checked_file(out: Path | None, suffix: str, bundle: Bundle) -> Path:
    """The file to write, which is not the bundle that was read."""
    from charforge.character.outputs import check_over_inputs
    from charforge.errors import InputError
    from charforge.files import check_output
    from charforge.words import file_stem

    out = out or Path(file_stem(bundle.manifest.character.name) + suffix)
    if out.suffix.lower() != suffix:
        raise InputError(f"-o {out}: this result is a {suffix} file; name one that ends so")
    check_output(out, "-o")
    check_over_inputs(out, [bundle.path], "-o")
    return out


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


def _write_sprites(
    parent: Path, bundle: Bundle, source: Path, drawing: Drawing, device: str | None, out: Path | None,
    key: Ed25519PrivateKey | None,
) -> None:  # fmt: skip
    from charforge.cli.output import say
    from charforge.export.faces import FACES, what_mini_knows
    from charforge.export.parts import with_sprites
    from charforge.export.sprites import folder_name, read_sprites, sprites_there
    from charforge.words import printable_line

    who = bundle.manifest.character
    folder = parent / folder_name(who.name)
    if out is not None:
        _checked_charx(out, bundle, key)
    there = sprites_there(folder, bundle, drawing)
    if there:
        say(f"{len(there)} of {len(FACES)} expressions were drawn before and stay as they are")
    if len(there) < len(FACES):
        if drawing.simple:
            say(printable_line(what_mini_knows(who.name, who.class_noun)))
        _draw_sprites(folder, bundle, source, drawing, device, there)
    say(f"wrote {folder}: {len(FACES)} expressions")
    if out is not None:
        _write_charx(out, with_sprites(bundle, read_sprites(folder)), key)


def _draw_sprites(
    folder: Path, bundle: Bundle, source: Path, drawing: Drawing, device: str | None, there: set[str]
) -> None:
    from charforge.chat.session import open_character
    from charforge.cli.output import say
    from charforge.device import chosen_device
    from charforge.export.faces import FACES
    from charforge.export.sprites import draw_sprites, mark_of, pictures_of_run, references_of, write_sprite
    from charforge.judges.encoders import load_encoder
    from charforge.progress import counting, waiting
    from charforge.settings import RewardSettings

    with waiting(f"opening {bundle.path.name}"):
        session = open_character(bundle.path, device=chosen_device(device))
        encoder = load_encoder(RewardSettings().encoder, session.base.model.device)
        pictures = pictures_of_run(source, session.base.model)
        references = references_of(session, encoder, pictures)
    measure = f"the run's {len(pictures)} pictures" if pictures else "drawings of its name: a bundle has no pictures"
    say(f"likeness is measured against {measure}")
    unread, total = [], len(FACES) - len(there)
    with counting(f"drawing {total} expressions, each the best of {drawing.best_of}") as report:
        report(0, total)
        for number, sprite in enumerate(draw_sprites(session, encoder, references, drawing, there), start=1):
            # each as soon as it is there: a call that was stopped goes on behind it
            write_sprite(folder, sprite, mark_of(bundle, drawing, sprite.label))
            unread += [] if sprite.read else [sprite.label]
            report(number, total)
    say(f"the base, asked, reads the expression that was meant in {total - len(unread)} of {total} pictures")
    if unread:
        say(f"not in {', '.join(unread)}: look at these; another --seed or a higher --best-of may do better")


def _write_merged(folder: Path, bundle: Bundle, dtype: Precision) -> None:
    from charforge.cli.output import say
    from charforge.export.folders import check_folder, write_merged
    from charforge.progress import byte_progress

    check_folder(folder, "--merged")
    with byte_progress("merging") as report:
        write_merged(folder, bundle, dtype.value, report)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"wrote {folder} ({size / 1e9:.2f} GB)")
