"""Bundles: what is written can be read, and nothing hostile gets past the reader."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_parts import RANK, A, B, adapter_bytes, manifest, png, safetensors
from card_files import card_charx, card_json, card_png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CONFIG, tiny_network
from tiny_base import tiny_base
from typer.testing import CliRunner

from charforge import grammar
from charforge.adapter.lora import adapter_state, add_adapter, lora_config
from charforge.adapter.names import tensor_shapes
from charforge.bases.where import base_shapes, find_base
from charforge.bundle import BundleError, read_bundle, write_bundle
from charforge.bundle.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    AVATAR,
    CARD,
    MANIFEST,
)
from charforge.character import Dialogue, Turn
from charforge.chat.session import open_character
from charforge.cli.main import app
from charforge.errors import InputError
from charforge.files import write_atomic

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
    return zip_of(members) if rehash and MANIFEST in members else as_zip(members)


def as_zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    """A bundle of ``members``; its manifest lists them as they are."""
    raw = json.loads(members[MANIFEST])
    raw["members"] = {n: hashlib.sha256(d).hexdigest() for n, d in members.items() if n != MANIFEST}
    return as_zip({**members, MANIFEST: json.dumps(raw).encode()})


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
zeros = np.zeros((8, RANK), "<f4")
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
    "folder with something in it": (put("assets/", b"x"), "no plain file"),
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
    "adapter cut": (lambda m: m.__setitem__(ADAPTER, m[ADAPTER][:-4]), "is truncated"),
    "adapter too long": (put(ADAPTER, safetensors({A: ones, B: ones.T}, extra=b"x")), "1 bytes follow its last tensor"),
    "adapter empty": (put(ADAPTER, b""), "no header length"),
    "adapter header huge": (put(ADAPTER, struct.pack("<Q", 1 << 60) + b"{}"), "no header length"),
    "adapter without tensors": (put(ADAPTER, safetensors({})), "no tensors"),
    "adapter of integers": (put(ADAPTER, safetensors({A: ones}, "I32")), "type I32"),
    "adapter of other names": (put(ADAPTER, safetensors({"lm_head.weight": ones})), "does not belong"),
    "adapter of other rank": (put(ADAPTER, safetensors({A: np.ones((3, 8), "<f4")})), "no LoRA of rank 2"),
    "adapter not a number": (put(ADAPTER, safetensors({A: nan})), "no numbers"),
    "adapter of zeros": (put(ADAPTER, safetensors({A: ones, B: zeros})), "all zeros"),
    "adapter of zeros below nothing": (put(ADAPTER, safetensors({A: ones, B: -zeros})), "all zeros"),
    "half an adapter": (put(ADAPTER, safetensors({B: np.ones((8, RANK), "<f4")})), "lacks the tensor .*lora_A"),
    "adapter without a layer": (put(ADAPTER, adapter_bytes(2)), "no tensors for layer 0"),
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
    assert "fresh export" in str(refused.value) and isinstance(refused.value, BundleError)


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


# the whole set of tensors


LAYERS = "base_model.model.language_model.model.layers"


def whole_adapter(layers: int | None = None) -> dict[str, np.ndarray]:
    """Every tensor of an adapter for mini, or those of its first layers."""
    shapes = tensor_shapes(base_shapes("mini").adapter_linears(0), RANK)
    kept = {name: shape for name, shape in shapes.items() if layers is None or _layer(name) < layers}
    return {name: np.full(shape, 0.5, "<f2") for name, shape in kept.items()}


def _layer(name: str) -> int:
    return int(name.removeprefix(f"{LAYERS}.").split(".")[0])


def for_mini(tensors: dict[str, np.ndarray]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[ADAPTER] = safetensors(tensors, "F16")
        raw = json.loads(members[MANIFEST])
        raw["base"]["name"] = "mini"
        members[MANIFEST] = json.dumps(raw).encode()

    return change


@pytest.mark.parametrize("first_layer", [0, 2])
def test_the_set_of_tensors_is_that_of_the_model(first_layer: int) -> None:
    model = tiny_network()
    add_adapter(model, lora_config(CONFIG, RANK, 4, first_layer=first_layer), seed=0)
    made = {name: tuple(tensor.shape) for name, tensor in adapter_state(model).items()}
    assert tensor_shapes(CONFIG.adapter_linears(first_layer), RANK) == made


def test_an_adapter_that_begins_at_an_upper_layer_says_so(good: Path, tmp_path: Path) -> None:
    upper = tensor_shapes(base_shapes("mini").adapter_linears(15), RANK)
    tensors = {name: np.full(shape, 0.5, "<f2") for name, shape in upper.items()}

    def change(members: dict[str, bytes], first_layer: int) -> None:
        for_mini(tensors)(members)
        raw = json.loads(members[MANIFEST])
        raw["adapter"]["first_layer"] = first_layer
        members[MANIFEST] = json.dumps(raw).encode()

    path = tmp_path / "upper.charx"
    path.write_bytes(rebuilt(good, lambda members: change(members, 15)))
    assert read_bundle(path).manifest.adapter.first_layer == 15
    path.write_bytes(rebuilt(good, lambda members: change(members, 0)))
    with pytest.raises(InputError, match=r"lacks \d+ of \d+ tensors"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (whole_adapter(), None),
        (whole_adapter(15), r"lacks \d+ of \d+ tensors"),
        ({n: v for n, v in whole_adapter().items() if "moe_gen" not in n}, r"lacks \d+ of \d+ tensors"),
        (whole_adapter() | {f"{LAYERS}.99.mlp.up_proj.lora_A.weight": ones.astype("<f2")}, "mini has no place for"),
        (whole_adapter() | {A: ones.astype("<f2")}, "and mini needs"),
        ({n: np.zeros_like(v) if "lora_B" in n else v for n, v in whole_adapter().items()}, "all zeros"),
    ],
    ids=["whole", "half", "understanding alone", "one too many", "misshapen", "zeros"],
)
def test_inspect_and_loading_ask_for_the_whole_adapter(
    good: Path, tmp_path: Path, tensors: dict[str, np.ndarray], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the weights of the base are not here: they cannot be compared
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mini.charx"
    path.write_bytes(rebuilt(good, for_mini(tensors)))
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    told = json.loads(result.stdout)
    assert (told["ok"], result.exit_code) == (words is None, int(words is not None))
    if words is None:
        assert read_bundle(path).manifest.base.name == "mini" and told["character"]["name"] == "Pip"
        assert told["problems"] == []
    else:
        assert re.search(words, told["problems"][0]["problem"]) and "fresh export" in told["problems"][0]["remedy"]
        with pytest.raises(InputError, match=words):
            read_bundle(path)


def test_other_weights_of_its_base_are_told(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARFORGE_CACHE", str(tmp_path / "cache"))
    for file in find_base("mini").identity:
        if not file.exists():
            write_atomic(file, "not those")
    path = tmp_path / "mini.charx"
    path.write_bytes(rebuilt(good, for_mini(whole_adapter())))
    told = json.loads(CliRunner().invoke(app, ["inspect", str(path), "--json"]).stdout)
    (problem,) = told["problems"]
    assert told["ok"] and problem["level"] == "warning" and "other weights of mini" in problem["problem"]


def test_a_base_that_is_not_known_here_is_told(good: Path) -> None:
    told = json.loads(CliRunner().invoke(app, ["inspect", str(good), "--json"]).stdout)
    assert told["ok"] and told["problems"][0]["level"] == "warning" and "nobodys" in told["problems"][0]["problem"]


# bundles that people unpack and zip anew, and files that are none


@pytest.mark.parametrize("top", ["", "Pip/"])
def test_a_bundle_that_was_zipped_anew_is_read(good: Path, tmp_path: Path, top: str) -> None:
    path = tmp_path / "anew.charx"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for folder in ("assets/", "assets/icon/", "__MACOSX/"):
            new.writestr(zipfile.ZipInfo(top + folder), b"")
        for name in old.namelist():
            new.writestr(top + name, old.read(name))
        new.writestr("__MACOSX/._card.json", b"attributes")
        new.writestr(f"{top}.DS_Store", b"order of the icons")
    assert read_bundle(path).contents == read_bundle(good).contents


def ordinary_card(kind: str) -> bytes:
    document = {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "Pip", "description": "A robot."}}
    return {"json": card_json(document), "png": card_png(document, png((80, 80))), "charx": card_charx(document, {})}[
        kind
    ]


@pytest.mark.parametrize("kind", ["json", "png", "charx"])
def test_an_ordinary_card_is_named_as_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"pip.{kind}"
    path.write_bytes(ordinary_card(kind))
    result = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    (problem,) = json.loads(result.stdout)["problems"]
    assert result.exit_code == 1 and problem["problem"] == "is an ordinary character card of Pip, without an adapter"
    assert f"charforge chat {path} --bare" in problem["remedy"] and "charforge train" in problem["remedy"]
    with pytest.raises(InputError, match="ordinary character card"):
        read_bundle(path)


def test_a_card_speaks_through_the_bare_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("charforge.chat.session.load_base", lambda name, *_: asked.append(name) or tiny_base())
    for kind in ("json", "png", "charx"):
        (tmp_path / f"pip.{kind}").write_bytes(ordinary_card(kind))
        session = open_character(tmp_path / f"pip.{kind}", adapter=False, device="cpu")
        assert grammar.system_prompt(session.character).startswith("You are Pip")
        assert "A robot." in session.character.persona
    assert asked == ["mini"] * 3
    with pytest.raises(InputError, match="ordinary character card"):
        open_character(tmp_path / "pip.json", adapter=True, device="cpu")


def test_a_card_without_a_name_speaks_for_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"spec": "chara_card_v2", "data": {"name": " ", "description": "x"}}))
    with pytest.raises(InputError, match="has no name"):
        open_character(tmp_path / "x.json", adapter=False, device="cpu")


def test_a_bundle_that_lost_its_manifest_is_no_ordinary_card(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "less.charx"
    path.write_bytes(rebuilt(good, drop(MANIFEST)))
    with pytest.raises(InputError, match=r"charforge\.json is missing"):
        read_bundle(path)


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_bundle(tmp_path)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "none"), "--json"])
    assert json.loads(result.stdout)["problems"][0]["problem"] == "does not exist"
