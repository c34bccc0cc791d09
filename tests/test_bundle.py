"""Bundles: what is written can be read, and nothing hostile gets past the reader."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from charforge.bundle import Manifest, read_bundle, write_bundle
from charforge.bundle.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    AVATAR,
    CARD,
    MANIFEST,
    AdapterInfo,
    BaseInfo,
    CharacterInfo,
    ChatInfo,
    TrainingInfo,
)
from charforge.character import Dialogue, Turn
from charforge.errors import InputError

A = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_B.weight"
RANK = 2


def safetensors(tensors: dict[str, np.ndarray], dtype: str = "F32", extra: bytes = b"") -> bytes:
    header, body = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body + extra


def adapter_bytes() -> bytes:
    return safetensors({A: np.ones((RANK, 8), "<f4"), B: np.ones((8, RANK), "<f4")})


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def manifest() -> Manifest:
    return Manifest(
        charforge_version="0.1.0",
        created="2026-11-23",
        base=BaseInfo(name="mini", content_hash="ab" * 32, precision="bfloat16"),
        adapter=AdapterInfo(rank=RANK, alpha=4),
        character=CharacterInfo(
            name="Pip", class_noun="clay robot", persona="Kind.", voice="Beeps.", appearance="Round.", opening="Beep!",
            author="me", license="CC0-1.0", facts=("Pip lives in a jar.",),
        ),
        chat=ChatInfo(temperature=0.7, top_p=0.9, max_tokens=50),
        training=TrainingInfo(seed=1, steps=2, best_step=2, pairs={"vqa": 3}, settings={}),
        evaluation={"perplexity": 3.5, "image_loss": None},
    )  # fmt: skip


DIALOGUES = (Dialogue((Turn("user", "Hi"), Turn("character", "Beep, friend.")), "dialogues.jsonl:1"),)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(adapter_bytes())
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}))
    return write_bundle(tmp_path / "pip.charx", manifest(), folder, DIALOGUES, png())


@pytest.mark.parametrize("drawing", [{"draw_steps": 10**9}, {"draw_side": "huge"}, {"speed": 3}, 7])
def test_sizes_to_draw_at_are_checked_before_anything_is_drawn(good: Path, tmp_path: Path, drawing: object):
    def change(members: dict[str, bytes]) -> None:
        told = json.loads(members[MANIFEST])
        told["drawing"] = drawing
        members[MANIFEST] = json.dumps(told).encode()

    (tmp_path / "bad.charx").write_bytes(rebuilt(good, change))
    with pytest.raises(InputError, match="refused"):
        read_bundle(tmp_path / "bad.charx")


def test_round_trip(good: Path, tmp_path: Path):
    bundle = read_bundle(good)
    assert bundle.manifest.character == manifest().character
    assert bundle.manifest.to_character().name == "Pip"
    bundle.extract_adapter(tmp_path / "out")
    assert (tmp_path / "out/adapter_model.safetensors").read_bytes() == adapter_bytes()
    assert bundle.avatar() == png()


def test_same_inputs_give_the_same_bytes(good: Path, tmp_path: Path):
    again = write_bundle(tmp_path / "again.charx", manifest(), tmp_path / "adapter", DIALOGUES, png())
    assert again.read_bytes() == good.read_bytes()


def test_it_is_an_ordinary_character_card(good: Path):
    card = read_bundle(good).card
    assert (card["spec"], card["spec_version"]) == ("chara_card_v3", "3.0")
    data = card["data"]
    assert data["group_only_greetings"] == []
    assert data["first_mes"] == "Beep!"
    assert data["mes_example"] == "<START>\n{{user}}: Hi\n{{char}}: Beep, friend."
    assert data["character_book"]["entries"][0]["content"] == "Pip lives in a jar."
    assert data["assets"][0] == {"type": "icon", "uri": f"embeded://{AVATAR}", "name": "main", "ext": "png"}


def test_no_training_picture_and_no_pickle_inside(good: Path):
    names = zipfile.ZipFile(good).namelist()
    assert [name for name in names if name.endswith(".png")] == [AVATAR]
    assert {Path(name).suffix for name in names} == {".json", ".png", ".safetensors", ".md"}


def rebuilt(good: Path, change: Callable[[dict[str, bytes]], None], rehash: bool = True) -> bytes:
    """The bundle with changed members; with ``rehash`` the manifest lists them as they are now."""
    with zipfile.ZipFile(good) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if rehash and MANIFEST in members:
        raw = json.loads(members[MANIFEST])
        raw["members"] = {n: hashlib.sha256(d).hexdigest() for n, d in members.items() if n != MANIFEST}
        members[MANIFEST] = json.dumps(raw).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.__setitem__(name, data)


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.pop(name) and None


def manifest_with(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[MANIFEST] = json.dumps(json.loads(members[MANIFEST]) | values).encode()

    return change


def config_with(**values: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[ADAPTER_CONFIG] = json.dumps(json.loads(members[ADAPTER_CONFIG]) | values).encode()

    return change


ones = np.ones((RANK, 8), "<f4")
nan = np.full((RANK, 8), np.nan, "<f4")
HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "absolute name": (put("/etc/x.json", b"{}"), "not safe"),
    "climbing name": (put("../x.json", b"{}"), "not safe"),
    "inner climbing name": (put("assets/../../x.json", b"{}"), "not safe"),
    "backslash": (put("a\\b.json", b"{}"), "not safe"),
    "drive letter": (put("C:x.json", b"{}"), "not safe"),
    "control letter": (put("a\nb.json", b"{}"), "not safe"),
    "pickle": (put("adapter_model.bin", b"x"), "kind that does not belong"),
    "python": (put("run.py", b"x"), "kind that does not belong"),
    "checkpoint": (put("model.pt", b"x"), "kind that does not belong"),
    "no suffix": (put("evil", b"x"), "kind that does not belong"),
    "folder": (put("assets/", b""), "no plain file"),
    "too many": (lambda m: m.update({f"{i}.txt": b"" for i in range(80)}), "more than 64"),
    "too large": (put("big.txt", b"\0" * ((16 << 20) + 1)), "larger than 16 MiB"),
    "same name in capitals": (put("CARD.json", b"{}"), "same name"),
    "no card": (drop(CARD), "card.json is missing"),
    "no adapter": (drop(ADAPTER), "is missing"),
    "manifest is a list": (put(MANIFEST, b"[]"), "no JSON object"),
    "manifest is no JSON": (put(MANIFEST, b"{"), "not valid JSON"),
    "manifest of the future": (manifest_with(format_version=9), "version 9"),
    "manifest with more": (manifest_with(extra=1), "wrong at extra"),
    "card is deep": (put(CARD, b"[" * 100_000), "not valid JSON"),
    "config imports": (config_with(auto_mapping={"parent_library": "os"}), "import code"),
    "config is no LoRA": (config_with(peft_type="IA3"), "not LoRA"),
    "config of other rank": (config_with(r=64), "rank or alpha"),
    "adapter cut": (lambda m: m.__setitem__(ADAPTER, m[ADAPTER][:-4]), "outside its file"),
    "adapter too long": (put(ADAPTER, safetensors({A: ones}, extra=b"x")), "longer than its tensors"),
    "adapter empty": (put(ADAPTER, b""), "too short"),
    "adapter header huge": (put(ADAPTER, struct.pack("<Q", 1 << 60) + b"{}"), "impossible size"),
    "adapter without tensors": (put(ADAPTER, safetensors({})), "no tensors"),
    "adapter of integers": (put(ADAPTER, safetensors({A: ones}, "I32")), "type I32"),
    "adapter of other names": (put(ADAPTER, safetensors({"lm_head.weight": ones})), "does not belong"),
    "adapter of other rank": (put(ADAPTER, safetensors({A: np.ones((3, 8), "<f4")})), "no LoRA of rank 2"),
    "adapter not a number": (put(ADAPTER, safetensors({A: nan})), "no numbers"),
    "avatar is text": (put(AVATAR, b"hello"), "not a readable PNG"),
    "avatar is huge": (put(AVATAR, png((5000, 1))), "more than 4096"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_bundles_are_refused_with_a_reason(good: Path, tmp_path: Path, case: str):
    change, words = HOSTILE[case]
    path = tmp_path / "hostile.charx"
    path.write_bytes(rebuilt(good, change, rehash=not case.startswith("manifest is")))
    with pytest.raises(InputError, match=words) as refused:
        read_bundle(path)
    assert "\n" not in str(refused.value)
    assert "fresh export" in str(refused.value)


def test_a_changed_member_is_found_by_its_hash(good: Path, tmp_path: Path):
    path = tmp_path / "changed.charx"
    path.write_bytes(rebuilt(good, put(CARD, b"{}"), rehash=False))
    with pytest.raises(InputError, match=r"hash of card\.json is wrong"):
        read_bundle(path)


def test_a_member_that_is_not_listed_is_refused(good: Path, tmp_path: Path):
    path = tmp_path / "more.charx"
    path.write_bytes(rebuilt(good, put("more.txt", b"x"), rehash=False))
    with pytest.raises(InputError, match="not listed"):
        read_bundle(path)


def test_a_zip_bomb_is_refused(good: Path, tmp_path: Path):
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr(zipfile.ZipInfo("bomb.txt"), b"\0" * (8 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="beyond belief"):
        read_bundle(good)


def test_a_symbolic_link_is_refused(good: Path):
    info = zipfile.ZipInfo("link.txt")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="no plain file"):
        read_bundle(good)


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        read_bundle(tmp_path / "none.charx")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path: Path, data: bytes):
    path = tmp_path / "random.charx"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_bundle(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_byte_is_refused_or_harmless(good: Path, tmp_path: Path, data: st.DataObject):
    raw = bytearray(good.read_bytes())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.charx"
    path.write_bytes(bytes(raw))
    try:
        bundle = read_bundle(path)
    except InputError:
        return
    # the flip hit what nobody reads (a time stamp, say): what was read is unchanged
    assert bundle.contents == read_bundle(good).contents
