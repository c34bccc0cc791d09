"""``charforge inspect``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OTHER_REMEDY = "`charforge chat --bare` and other programs can use the card all the same"
UNSIGNED_REMEDY = "use it if you trust where it came from"


def inspect(
    bundle: Annotated[Path, typer.Argument(help="the .charx bundle")],
    trusted: Annotated[
        Path | None,
        typer.Option(help="a file of trusted keys as ssh-keygen has it (allowed_signers): names the signer"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")] = False,
) -> None:
    """Verify a bundle and say what is inside, who made it, and on what base. As strict as loading it.

    A signature beside it (FILE.sig) must be right; most bundles have none. Exit code 0 when it can be used, 1 when it
    cannot.

    \b
    Examples:
      charforge inspect wren.charx
      charforge inspect wren.charx --json
      charforge inspect wren.charx --trusted ~/.ssh/allowed_signers
    """
    from charforge.bundle import BundleError, read_bundle
    from charforge.bundle.adapter import known_shapes
    from charforge.bundle.signature import name_of, signer_of
    from charforge.cli.output import print_json, say
    from charforge.words import called, printable_line

    try:
        manifest = read_bundle(bundle).manifest
    except BundleError as error:
        if not as_json:
            raise
        row = {"file": str(bundle), "level": "error", "problem": error.problem, "remedy": error.remedy}
        print_json({"ok": False, "problems": [row]})
        raise typer.Exit(1) from error
    signer = signer_of(bundle)
    name = name_of(signer, trusted) if signer is not None and trusted is not None else None
    character, base, training = manifest.character, manifest.base, manifest.training
    problems = []
    if known_shapes(base.name) is None:
        unknown = (
            f"was made for the base {base.name}, which is not known here: "
            "the adapter could be checked by itself only, not against its base"
        )
        remedy = "to use it, have that base here under the same name or path"
        problems.append({"file": str(bundle), "level": "warning", "problem": unknown, "remedy": remedy})
    elif (other := _other_weights(base.name, base.content_hash)) is not None:
        problems.append({"file": str(bundle), "level": "warning", "problem": other, "remedy": OTHER_REMEDY})
    if trusted is not None and name is None:
        unnamed = f"is signed by nobody that {trusted} names" if signer is not None else "is not signed"
        problems.append({"file": str(bundle), "level": "warning", "problem": unnamed, "remedy": UNSIGNED_REMEDY})
    if as_json:
        told = {"key": signer.kind, "fingerprint": signer.fingerprint, "name": name} if signer is not None else None
        print_json({"ok": True, "problems": problems, "signature": told, **manifest.model_dump()})
        return
    say(
        printable_line(
            f"{called(character.name, character.class_noun)}, by {character.author or 'unknown'}"
            f" ({character.license or 'no licence'})"
        )
    )
    say(
        printable_line(
            f"base {base.name} ({base.precision}, {base.content_hash[:12]}), adapter rank {manifest.adapter.rank}"
        )
    )
    say(f"trained {training.steps} steps, seed {training.seed}; every member's hash is right")
    if signer is not None:
        say(f"signed by {name or 'the key'} {signer.fingerprint} ({signer.kind})")
    for problem in problems:
        say(f"it {problem['problem']}; {problem['remedy']}")
    if manifest.evaluation:
        say("measured on texts and pictures that were in no training, without the adapter (off) and with it (on):")
    for name, value in manifest.evaluation.items():
        say(f"  {printable_line(name)}: {value if value is not None else 'not measured'}")


def _other_weights(name: str, trained: str) -> str | None:
    """In words that the base here has other weights than the adapter was trained on; None where that cannot be said."""
    from charforge.bases.hashes import other_weights
    from charforge.bases.where import hash_here

    here = hash_here(name)
    return None if here is None or here == trained else other_weights(name, trained, here)
