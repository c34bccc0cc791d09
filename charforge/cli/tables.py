"""Tables that fit their terminal: what matters least is left out, and paths are folded where a folder ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

FRAME = 3
"""Characters that a column takes beside its own: two of space and a line."""
LONGEST_PART = 24
"""Of a path that is folded: a longer name is cut where the line ends."""
LEAST_COLUMNS = 2


@dataclass(frozen=True)
class Column:
    """A column, with a cell a row. ``rank``: those with the highest are left out first. ``width``: of cells that are no
    text. ``is_path``: it may be folded."""

    name: str
    cells: Sequence[RenderableType]
    rank: int
    width: int = 0
    is_path: bool = False

    def natural(self) -> int:
        """As wide as its widest cell."""
        return max(self.width, *map(_cells, (self.name, *self._texts())))

    def least(self) -> int:
        """As narrow as it can be read."""
        if not self.is_path:
            return self.natural()
        parts = [part for text in self._texts() for part in _parts(text)]
        return max(_cells(self.name), *(min(LONGEST_PART, _cells(part)) for part in parts), 1)

    def _texts(self) -> list[str]:
        return [cell for cell in self.cells if isinstance(cell, str)]


def fitted(columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """The table in so many characters, and the names of the columns that had no room. Cells that are text are shown as
    they are, without markup."""
    from rich.table import Table
    from rich.text import Text

    from charforge.words import printable

    kept = sorted(columns, key=lambda column: column.rank)
    while len(kept) > LEAST_COLUMNS and _taken([column.least() for column in kept]) > width:
        kept.pop()
    left_out = [column.name for column in columns if column not in kept]
    kept = [column for column in columns if column in kept]
    widths = {id(column): column.least() for column in kept}
    # where even two have no room, rich cuts them as it likes
    fits = _taken(list(widths.values())) <= width
    spare = max(0, width - _taken(list(widths.values())))
    for column in kept:
        more = min(spare, column.natural() - widths[id(column)])
        widths[id(column)] += more
        spare -= more
    table = Table(show_lines=False)
    for column in kept:
        table.add_column(column.name, overflow="fold", min_width=widths[id(column)] if fits else None)
    for row in zip(*(column.cells for column in kept), strict=True):
        shown: list[RenderableType] = []
        for column, cell in zip(kept, row, strict=True):
            folded = fits and isinstance(cell, str) and column.is_path
            text = "\n".join(fold(printable(cell), widths[id(column)])) if folded else cell  # type: ignore[arg-type]
            shown.append(Text(printable(text)) if isinstance(text, str) else text)
        table.add_row(*shown)
    return table, left_out


def fold(path: str, width: int) -> list[str]:
    """``path`` in lines of at most ``width``, which end where a folder does."""
    from rich.cells import chop_cells

    lines = [""]
    for part in _parts(path):
        for piece in chop_cells(part, width) or [""]:
            if lines[-1] and _cells(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + FRAME * len(widths) + 1


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"(?<=[/\\])", path) if part]


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
