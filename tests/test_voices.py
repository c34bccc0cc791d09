"""Which bundles of a folder are served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle_parts import manifest, png
from exported import DIALOGUES, good

from charforge.bundle import BundleError, write_bundle
from charforge.errors import InputError
from charforge.serve.voices import bundles_in

__all__ = ["good"]


def test_a_damaged_bundle_in_a_folder_keeps_the_others_from_nobody(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "characters"
    folder.mkdir()
    for name in ("amy", "wren"):
        shutil.copy(good, folder / f"{name}.charx")
    (folder / "bo.charx").write_bytes(good.read_bytes()[:-500])
    told: list[str] = []
    found = bundles_in([folder], True, told.append)
    assert [path.stem for path in found] == ["amy", "wren"]
    assert len(told) == 1 and "bo.charx" in told[0]
    # who names it wants that one
    with pytest.raises(BundleError):
        bundles_in([folder / "bo.charx"], True, told.append)


def test_a_bundle_of_another_base_is_left_out_where_all_share_one(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "characters"
    folder.mkdir()
    shutil.copy(good, folder / "amy.charx")
    told = manifest()
    other = told.model_copy(update={"base": told.base.model_copy(update={"content_hash": "1" * 64})})
    write_bundle(folder / "zoe.charx", other, good.parent / "adapter", DIALOGUES, png())
    said: list[str] = []
    assert [path.stem for path in bundles_in([folder], True, said.append)] == ["amy"]
    assert "another base" in said[0]
    assert [path.stem for path in bundles_in([folder], False, said.append)] == ["amy", "zoe"]


@pytest.mark.parametrize("content", [None, b"PK"])
def test_a_folder_with_nothing_to_serve_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.charx").write_bytes(content)
    with pytest.raises(InputError, match=r"holds no|none of its 1"):
        bundles_in([tmp_path], True, lambda line: None)
