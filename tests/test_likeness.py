"""``charforge likeness``: how like the character of a bundle any picture is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from bundle_parts import RANK, adapter_bytes, manifest, png
from command import charforge
from folders import drawing

from charforge.bundle import read_bundle
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD
from charforge.bundle.write import write_members
from charforge.evaluate.references import bundle_pictures
from charforge.pixels import initial

CONFIG = json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}).encode()


def bytes_of(number: int) -> bytes:
    out = io.BytesIO()
    drawing(number).save(out, "PNG")
    return out.getvalue()


def bundle(path: Path, **pictures: bytes) -> Path:
    """A bundle with an avatar and other pictures by name."""
    members = {CARD: json.dumps({"data": {}}).encode(), AVATAR: png(), ADAPTER: adapter_bytes(), ADAPTER_CONFIG: CONFIG}
    members |= {AVATAR if name == "avatar" else f"assets/other/{name}.png": data for name, data in pictures.items()}
    return write_members(path, manifest(), members)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pip/images").mkdir(parents=True)
    for number in (1, 5, 9, 13):
        drawing(number).save(tmp_path / f"pip/images/{number:02d}.png")
    drawing(5).save(tmp_path / "same.png")
    drawing(40).save(tmp_path / "other.png")
    bundle(tmp_path / "pip.charx")
    return tmp_path


def test_the_same_picture_is_most_like_itself(folder: Path):
    told = charforge("likeness", "pip.charx", "same.png", "other.png", "--references", "pip", "--json", cwd=folder)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert set(found) == {"pictures"} and set(found["pictures"]) == {"same.png", "other.png"}
    same, other = found["pictures"]["same.png"], found["pictures"]["other.png"]
    assert same["nearest"] == "05.png" and same["likeness"] == pytest.approx(1, abs=1e-3)
    assert other["likeness"] < same["likeness"]
    assert "--references" not in told.stderr, "nothing is missing"
    shown = charforge("likeness", "pip.charx", "same.png", "--references", "pip", cwd=folder)
    assert "of each other" in shown.stderr and "efficientnet-lite0" in shown.stderr and shown.stdout == ""


def test_a_bundle_alone_has_its_avatar_and_says_what_is_missing(folder: Path):
    told = charforge("likeness", "pip.charx", "same.png", "--json", cwd=folder)
    assert json.loads(told.stdout)["pictures"]["same.png"]["nearest"] == AVATAR
    assert told.stderr.count("--references FOLDER") == 1 and "drew itself" in told.stderr


def test_what_else_a_bundle_carries_is_compared_with(folder: Path):
    bundle(folder / "more.charx", happy=bytes_of(5), sad=bytes_of(9))
    told = charforge("likeness", "more.charx", "same.png", "--json", cwd=folder)
    assert json.loads(told.stdout)["pictures"]["same.png"]["nearest"] == "assets/other/happy.png"


def test_an_initial_on_grey_shows_nobody(folder: Path):
    out = io.BytesIO()
    initial("Pip").save(out, "PNG")
    plain = bundle(folder / "plain.charx", avatar=out.getvalue())
    assert bundle_pictures(read_bundle(plain)) == {}
    told = charforge("likeness", "plain.charx", "same.png", cwd=folder)
    assert told.returncode == 1 and "carries no picture" in told.stderr and "--references FOLDER" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody.charx", "same.png"], "does not exist"),
        (["pip.charx", "nothing.png"], "nothing.png"),
        (["pip.charx", "same.png", "--references", "nowhere"], "no such folder"),
        (["pip.charx", "same.png", "--references", "empty"], "holds no pictures"),
        (["broken.charx", "same.png"], "cannot be read"),
    ],
)
def test_bad_input_is_a_sentence(folder: Path, arguments: list[str], told: str):
    (folder / "empty").mkdir()
    bundle(folder / "broken.charx", bad=b"\x89PNG not really")
    done = charforge("likeness", *arguments, cwd=folder)
    assert done.returncode == 1 and told in done.stderr


def test_an_unknown_encoder_is_the_machines_matter(folder: Path):
    done = charforge("likeness", "pip.charx", "same.png", "--encoder", "clip", cwd=folder)
    assert done.returncode == 3 and "efficientnet-lite0" in done.stderr
