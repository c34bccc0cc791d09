"""The house: no two rooms import each other, and nobody but a family knows a family from inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from rooms import DOCUMENT, PACKAGE, cycle_among, imports_by_room, inside_knowledge, with_table


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert cycle_among(imports_by_room()) == []


def test_a_circle_would_be_found() -> None:
    assert set(cycle_among({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


def test_only_families_and_the_recipe_know_a_family_from_inside() -> None:
    assert inside_knowledge() == []


def test_inside_knowledge_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "new.py").write_text("def f():\n    from charforge.families.bagel.model import BagelModel\n")
    assert inside_knowledge(tmp_path) == ["train/new.py"]


def test_nothing_imports_how_the_embedded_base_was_made() -> None:
    assert [room for room, others in imports_by_room().items() if "recipe" in others] == []


@pytest.mark.parametrize("low", ["character", "families", "expand"])
def test_what_comes_early_depends_on_nothing_that_comes_late(low: str) -> None:
    late = {"train", "run", "evaluate", "chat", "bundle", "cost", "cli"}
    assert imports_by_room()[low] & late == set()


def test_the_table_in_the_document_is_that_of_today() -> None:
    written = DOCUMENT.read_text("utf-8")
    assert written == with_table(written), "run `python tests/rooms.py` and look at what changed"
    assert (PACKAGE / "families" / "protocol.py").exists()
