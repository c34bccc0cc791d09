"""Who imports whom in ``charforge/``: the table in docs/architecture.md, and what must not be.

``python tests/rooms.py`` writes the table anew. A room is a folder of ``charforge/``, or a module that stands beside
them. Imports inside functions and those for type checkers alone count like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "charforge"
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by tests/rooms.py -->\n", "<!-- end of rooms -->\n"
MAKES_FAMILIES = ("families", "recipe")
"""The rooms that know a family from inside: the families themselves, and how the embedded base was made."""


def imported_modules(file: Path) -> Iterator[str]:
    """The modules of charforge that ``file`` imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "charforge":
            yield from (f"charforge.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("charforge."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("charforge."))


def room_of(module: str) -> str:
    """``charforge.train.sft`` -> ``train``."""
    return module.split(".")[1]


def imports_by_room() -> dict[str, set[str]]:
    """For each room the others that it imports."""
    rooms: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts == ("charforge", "__init__"):
            continue
        rooms.setdefault(parts[1], set()).update(
            room_of(module) for module in imported_modules(file) if not module.startswith("charforge.__")
        )
    return {room: others - {room} for room, others in rooms.items()}


def cycle_among(rooms: dict[str, set[str]]) -> list[str]:
    """Rooms that import each other in a circle, if any do."""
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def inside_knowledge(package: Path = PACKAGE) -> list[str]:
    """Files outside of ``MAKES_FAMILIES`` that import the inside of a family."""
    families = {path.name for path in (PACKAGE / "families").iterdir() if path.is_dir() and path.name[0] != "_"}
    inner = tuple(f"charforge.families.{family}" for family in families)
    return [
        str(file.relative_to(package))
        for file in sorted(package.rglob("*.py"))
        if file.relative_to(package).parts[0] not in MAKES_FAMILIES
        and any(module.startswith(inner) for module in imported_modules(file))
    ]


def table(rooms: dict[str, set[str]]) -> str:
    """The rooms in an order in which each comes after all that it imports."""
    order = list(TopologicalSorter({room: sorted(others) for room, others in sorted(rooms.items())}).static_order())
    folders = [room for room in order if (PACKAGE / room).is_dir()]
    beside = [room for room in order if room not in folders]
    lines = ["| room | imports |", "|---|---|"]
    for room in folders:
        others = [other for other in order if other in rooms[room] and other in folders]
        lines.append(f"| `{room}/` | {', '.join(others) or 'no other room'} |")
    modules = ", ".join(f"`{room}.py`" for room in beside)
    return "\n".join([*lines, "", f"Beside them, used by many rooms: {modules}.", ""])


def with_table(document: str) -> str:
    """The document with the table of today."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(imports_by_room())}{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")
