"""Run folders: finding the one to go on with, opening it for one process at a time, setting it aside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

from charforge.bases.hashes import other_weights
from charforge.bases.where import hash_here
from charforge.bundle import BundleError, read_bundle
from charforge.character import Character
from charforge.errors import InputError
from charforge.files import write_atomic
from charforge.run import lease
from charforge.run.identity import in_words, input_differences, setting_differences
from charforge.settings import Settings, settings_of_run, settings_toml
from charforge.words import file_stem

CONFIG, IDENTITY, RESULT, FAILURE = "config.toml", "identity.json", "result.json", "failure.json"
TRAINING = "training"
EARLIER_IDENTITY = "identity.txt"
BASE = "base.json"
ASIDE = ".old-"
BEGIN_ANEW = (
    "put back a copy of it, or begin the run anew with `charforge train --restart`, which keeps the old folder under "
    "another name"
)
REMEDIES = {
    BASE: "it says on which weights of its base the run was trained. If nothing has changed the base since, delete the "
    "file: the run is whole without it, and training writes it anew. If the base has changed, begin the run anew with "
    "`charforge train --restart`, which keeps the old folder under another name",
    RESULT: "delete it and train as before: what was trained stands, and is measured anew",
    FAILURE: "delete it: it holds the last failure alone",
    "sittings.json": "delete it: it holds how long the calls took that worked on the run",
    "texts-on.json": "delete it and train as before: it is measured anew",
    "texts-off.json": "delete it and train as before: it is measured anew",
}
"""What to do where a file of a run is damaged, by its name; of the others :data:`BEGIN_ANEW`."""
FIRST_CHECKPOINT = Path("checkpoints") / "last.safetensors"
SECOND_CHECKPOINT = Path("checkpoints") / "grpo" / "last.safetensors"


def slug_of(character: Character) -> str:
    """The character's name as a file name."""
    return file_stem(character.name)


def bundle_of(source: Path) -> Path:
    """The bundle of a run, or ``source`` itself where it is a file. Raises InputError for a run that has none."""
    if not source.is_dir():
        return source
    found = sorted(source.glob("*.charx"))
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{source} holds several bundles ({', '.join(path.name for path in found)}): name one of them")
    raise InputError(
        f"{source} holds no bundle: name a .charx file, or a run that has finished its first stage (`charforge runs`)"
    )


def is_run(folder: Path) -> bool:
    """Whether ``folder`` is a run that this charforge can go on with."""
    return (folder / CONFIG).is_file() and (folder / IDENTITY).is_file()


def read_json(file: Path) -> Any:
    """The document in ``file``, which is one of a run. Raises InputError when it is damaged."""
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, why: object) -> InputError:
    return InputError(f"{file} is damaged ({why}): {REMEDIES.get(file.name, BEGIN_ANEW)}")


def read_result(run: Path) -> dict[str, Any] | None:
    """The metrics of the last stage that was finished, None before the first one is."""
    return read_json(run / RESULT) if (run / RESULT).exists() else None


def is_complete(run: Path, both: bool, bundle: Path) -> bool:
    """Whether nothing is left to do: the stage that is asked for is finished, no part failed, the bundle is there."""
    result = read_result(run)
    if result is None or "failed_parts" in result or not bundle.exists():
        return False
    return result["stage"] == "grpo" or not both


def differences(run: Path, settings: Settings, inputs: Mapping[str, str]) -> list[str]:
    """In what the job of ``run`` differs from this one, as far as it decides the result."""
    try:
        known, given = settings_of_run(run / CONFIG), read_json(run / IDENTITY)
    except InputError as error:
        return [f"what it is a run of cannot be read ({error})"]
    begun = (run / SECOND_CHECKPOINT).exists()
    return setting_differences(known, settings, begun) + input_differences(given, inputs)


def find_run(runs: Path, character: Character, settings: Settings, inputs: Mapping[str, str], both: bool) -> Path:
    """The latest run of the very same job in ``runs``, one that is not complete before one that is; else a new folder
    ``NAME-DATE-N``.
    """
    slug = slug_of(character)
    same = [
        path
        for path in runs.glob(f"{slug}-*")
        if is_run(path) and ASIDE not in path.name and not differences(path, settings, inputs)
    ]
    if same:
        return max(same, key=lambda run: (not is_complete(run, both, run / f"{slug}.charx"), run.stat().st_mtime))
    number = 1
    while (run := runs / f"{slug}-{date.today():%Y%m%d}-{number}").exists():
        number += 1
    return run


def check_run(run: Path, settings: Settings, inputs: Mapping[str, str]) -> None:
    """Raises InputError when ``run`` is there and is no run of this job, naming what differs; Held when another process
    is beginning it."""
    if not run.exists() or not _content(run):
        return
    if not run.is_dir() or not is_run(run):
        if is_held(run):
            # its first files are being written
            raise lease.Held(lease.works_in(run / lease.NAME))
        if (run / EARLIER_IDENTITY).is_file():
            raise InputError(f"{run} is of an earlier charforge: choose a new --out, or --restart to set it aside")
        raise InputError(f"{run} is not empty and is no run of charforge: choose a new --out")
    # said as everywhere else, before anything is compared
    settings_of_run(run / CONFIG)
    read_json(run / IDENTITY)
    found = differences(run, settings, inputs)
    if found:
        raise InputError(
            f"{run} holds a run of something else: {in_words(found)}. Choose a new --out, or --restart to begin this "
            f"folder anew (the old one is kept as {_aside(run).name})"
        )


def set_aside(run: Path) -> Path | None:
    """Rename an existing run out of the way; returns where it is now. Raises as :func:`working_in` does."""
    if not run.exists() or not _content(run):
        return None
    if not (run / CONFIG).is_file() or not any((run / name).is_file() for name in (IDENTITY, EARLIER_IDENTITY)):
        raise InputError(f"{run} is no run of charforge, --restart leaves it alone: choose a new --out")
    with working_in(run):
        pass
    return run.rename(_aside(run))


def _aside(run: Path) -> Path:
    number = 1
    while (aside := run.with_name(f"{run.name}{ASIDE}{number}")).exists():
        number += 1
    return aside


def _content(run: Path) -> bool:
    """Whether more lies there than the traces of a start that came to nothing."""
    return not run.is_dir() or any(not lease.is_part(path) for path in run.iterdir())


def check_base(run: Path, name: str, here: str | None = None) -> None:
    """Raises InputError where ``run`` was begun on other weights of the base ``name`` than ``here`` (their hash; by
    default those that are here, where all their files are). A run without a record of them passes."""
    if (trained := _trained_on(run)) is None:
        return
    here = here or hash_here(name)
    if here is not None and here != trained:
        remedy = "charforge train --restart sets it aside and begins anew"
        raise InputError(f"{run} {other_weights(name, trained, here)} ({remedy})")


def keep_base(run: Path, name: str, here: str) -> None:
    """Note the weights, by their hash, on which ``run`` trains. Raises as :func:`check_base`."""
    check_base(run, name, here)
    if not (run / BASE).exists():
        write_atomic(run / BASE, json.dumps({"name": name, "content_hash": here}))


def _trained_on(run: Path) -> str | None:
    """The hash of the base's weights of ``run``: its own record, else that of its bundle."""
    if (run / BASE).is_file():
        record = read_json(run / BASE)
        if not isinstance(record, dict) or not isinstance(record.get("content_hash"), str):
            raise _damaged(run / BASE, "it names no content_hash")
        return record["content_hash"]
    for bundle in sorted(run.glob("*.charx")):
        # a damaged one is written anew
        with suppress(BundleError):
            return read_bundle(bundle).manifest.base.content_hash
    return None


@contextmanager
def open_run(
    run: Path, settings: Settings, inputs: Mapping[str, str], tell: Callable[[str], None] = lambda line: None
) -> Iterator[lease.Hold]:
    """Begin or continue ``run`` for as long as the block lasts; no other process may. ``tell`` hears of a wait.

    A start that fails before the first checkpoint leaves no folder that would refuse the next one with other settings.
    Raises as :func:`check_run` and :func:`working_in` do.
    """
    check_run(run, settings, inputs)
    existed, fresh = run.exists(), not is_run(run)
    try:
        with working_in(run, tell) as hold, _nothing_left(run, fresh, hold):
            _sweep(run)
            write_atomic(run / CONFIG, settings_toml(settings))
            if fresh:
                write_atomic(run / IDENTITY, json.dumps(dict(inputs), indent=1, ensure_ascii=False))
            yield hold
    except BaseException:
        if fresh and not existed:
            # one that is not empty is somebody else's by now
            with suppress(OSError):
                run.rmdir()
        raise


@contextmanager
def _nothing_left(run: Path, fresh: bool, hold: lease.Hold) -> Iterator[None]:
    """Clear away what a ``fresh`` start has made that fails inside the block before its first checkpoint."""
    try:
        yield
    except BaseException:
        if fresh and hold.lost is None and not (run / FIRST_CHECKPOINT).exists():
            for path in run.iterdir():
                if not lease.is_part(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


@contextmanager
def working_in(run: Path, tell: Callable[[str], None] = lambda line: None) -> Iterator[lease.Hold]:
    """Hold ``run``; ``tell`` hears of a wait. Raises :class:`~charforge.run.lease.Held` naming the process that does
    already."""
    with lease.holding(run / lease.NAME, tell=tell) as hold:
        yield hold


def is_held(run: Path) -> bool:
    """Whether a process works in ``run`` now."""
    return lease.is_held(run / lease.NAME)


def _sweep(run: Path) -> None:
    """Clear away what a kill leaves behind: temporary files of atomic writes, half a line of the metrics, a failure
    that is about to be made good."""
    for path in run.rglob(".*.tmp"):
        path.unlink()
    (run / FAILURE).unlink(missing_ok=True)
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        written = metrics.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:
            write_atomic(metrics, whole)
