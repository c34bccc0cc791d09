"""Which files of a base folder hold what. Only names and JSON: no torch."""

from __future__ import annotations

import json
from pathlib import Path

from charforge.errors import InputError


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the model in ``folder``: ``ema.safetensors``, or the shards of an index.

    Raises InputError naming what is missing: a shard, or the one file where there is no index.
    """
    one, index = folder / "ema.safetensors", folder / "model.safetensors.index.json"
    # the published folder carries an index as well; its one file is what the index describes
    if one.exists() or not index.exists():
        if not one.exists():
            raise InputError(f"{one} is missing: the base is not complete; fetch it again")
        return [one]
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is not a readable index of shards; fetch the base again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{index} names {name!r}, which is not a file beside it; fetch the base again")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise InputError(
            f"{folder} is not complete: {index.name} names {', '.join(missing) or 'no shard'}"
            f"{', which is not there' if missing else ''}; fetch the base again"
        )
    return [folder / name for name in names]


def tokenizer_file(folder: Path) -> Path:
    """The file to build the tokenizer of a base folder from: ``tokenizer.json``, or ``vocab.json`` where there is none.

    Raises InputError when neither it nor ``vocab.json`` with ``merges.txt`` is there.
    """
    if (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder / "vocab.json"
    raise InputError(f"{folder} has no tokenizer.json, nor vocab.json with merges.txt: fetch the base again")
