"""Which bundles of a folder are served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle_parts import manifest, png
from exported import DIALOGUES, good
from layout import write_checkpoint

from charforge.bases.hashes import content_hash
from charforge.bases.where import find_base
from charforge.bundle import BundleError, write_bundle
from charforge.errors import InputError
from charforge.serve.voices import bundles_in

__all__ = ["good"]


def bundle_on(good: Path, to: Path, base: str, content_hash: str) -> Path:
    """The good bundle, trained on another base."""
    told = manifest()
    info = told.base.model_copy(update={"name": base, "content_hash": content_hash})
    return write_bundle(to, told.model_copy(update={"base": info}), good.parent / "adapter", DIALOGUES, png())


@pytest.fixture
def base(tmp_path: Path) -> tuple[str, str]:
    """Name and hash of a base that is here."""
    folder = write_checkpoint(tmp_path / "base")
    return str(folder), content_hash(list(find_base(str(folder)).identity))


def test_a_damaged_bundle_in_a_folder_keeps_the_others_from_nobody(
    good: Path, base: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "characters"
    folder.mkdir()
    for name in ("amy", "wren"):
        bundle_on(good, folder / f"{name}.charx", *base)
    (folder / "bo.charx").write_bytes(good.read_bytes()[:-500])
    told: list[str] = []
    for one_base in (True, False):
        told.clear()
        assert [path.stem for path in bundles_in([folder], one_base, told.append)] == ["amy", "wren"]
        assert len(told) == 1 and "bo.charx" in told[0]
    # who names it wants that one
    with pytest.raises(BundleError):
        bundles_in([folder / "bo.charx"], True, told.append)


def test_bundles_of_other_bases_are_left_out_whatever_they_are_called(
    good: Path, base: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "characters"
    folder.mkdir()
    bundle_on(good, folder / "amy.charx", str(tmp_path / "gone"), base[1])
    bundle_on(good, folder / "bo.charx", base[0], "1" * 64)
    bundle_on(good, folder / "cat.charx", *base)
    other = write_checkpoint(tmp_path / "other", shards=2)
    bundle_on(good, folder / "dog.charx", str(other), content_hash(list(find_base(str(other)).identity)))
    copy = shutil.copytree(base[0], tmp_path / "copy")
    bundle_on(good, folder / "eve.charx", str(copy), base[1])
    said: list[str] = []
    assert [path.stem for path in bundles_in([folder], True, said.append)] == ["cat", "eve"]
    assert "gone" in said[0] and "other weights" in said[1] and "another base" in said[2]
    assert len(bundles_in([folder], False, said.append)) == 5


@pytest.mark.parametrize("content", [None, b"PK"])
def test_a_folder_with_nothing_to_serve_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.charx").write_bytes(content)
    with pytest.raises(InputError, match=r"holds no|none of its 1"):
        bundles_in([tmp_path], True, lambda line: None)
