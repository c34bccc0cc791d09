"""Cases from tests/cases as folders: each holds what is particular to it and takes the rest from examples/wren."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).parent
CASES = HERE / "cases"
WREN = HERE.parent / "examples" / "wren"


def lay_out(case: str, folder: Path) -> Path:
    """Write the case into ``folder``; FROM_WREN names what is taken as it is (source, tab, destination)."""
    for line in (CASES / case / "FROM_WREN").read_text("utf-8").splitlines():
        source, destination = line.split("\t")
        (folder / destination).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(WREN / source, folder / destination)
    for file in (CASES / case).rglob("*"):
        if file.is_file() and file.name != "FROM_WREN":
            target = folder / file.relative_to(CASES / case)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    return folder
