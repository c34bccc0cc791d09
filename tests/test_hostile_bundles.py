"""Bundles, cards and weights from people who mean harm: each is refused in one line or harmless; nothing is written."""

from __future__ import annotations

import base64
import io
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_parts import RANK, A, B, adapter_bytes, png, safetensors
from card_files import card_charx, card_json, card_png
from exported import contents, good
from test_bundle import as_zip, config_with, manifest_with, put, zip_of
from typer.testing import CliRunner

from charforge.bundle import read_bundle
from charforge.bundle.manifest import ADAPTER, ADAPTER_CONFIG, AVATAR, CARD, MANIFEST, README
from charforge.character.cards import read_card
from charforge.character.cards.containers import MAX_TEXT
from charforge.cli.main import app
from charforge.errors import InputError

__all__ = ["good"]
Members = dict[str, bytes]
ONES, BOTH = np.ones((RANK, 8), "<f4"), {A: np.ones((RANK, 8), "<f4"), B: np.ones((8, RANK), "<f4")}


def with_info(name: str, data: bytes = b"x", **values: object) -> Callable[[Members], bytes]:
    """A bundle with one more member, whose entry says something odd."""

    def build(members: Members) -> bytes:
        out = io.BytesIO()
        info = zipfile.ZipInfo(name)
        for key, value in values.items():
            setattr(info, key, value)
        with zipfile.ZipFile(out, "w") as archive:
            for own, content in members.items():
                archive.writestr(own, content)
            archive.writestr(info, data)
        return out.getvalue()

    return build


def changed(*changes: Callable[[Members], None]) -> Callable[[Members], bytes]:
    """A bundle whose manifest is right about members that are wrong."""

    def build(members: Members) -> bytes:
        for change in changes:
            change(members)
        return zip_of(members)

    return build


def patched(find: bytes, write: bytes, first: int = 0) -> Callable[[Members], bytes]:
    """Bytes of the zip itself replaced, wherever they stand from ``first`` on."""

    def build(members: Members) -> bytes:
        raw = zip_of(members)
        assert find in raw[first:]
        return raw[:first] + raw[first:].replace(find, write)

    return build


def doubled(members: Members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, pytest.warns(UserWarning):
        for name, data in [*members.items(), (CARD, b"{}")]:
            archive.writestr(name, data)
    return out.getvalue()


def of_directory(field: int, width: str, value: int) -> Callable[[Members], bytes]:
    """The adapter's entry in the central directory with another number at ``field``."""

    def build(members: Members) -> bytes:
        raw = bytearray(zip_of(members))
        at = raw.rfind(b"PK\x01\x02", 0, raw.rfind(ADAPTER.encode()))
        struct.pack_into(width, raw, at + field, value)
        return bytes(raw)

    return build


def header(entries: object, body: bytes = b"") -> bytes:
    encoded = json.dumps(entries).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def entry(dtype: str = "F32", shape: object = (RANK, 8), offsets: object = (0, 64)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def adapter(data: bytes) -> Callable[[Members], bytes]:
    return changed(put(ADAPTER, data))


def of_manifest(path: str, value: object) -> Callable[[Members], bytes]:
    """The manifest with ``value`` at a dotted path."""

    def change(members: Members) -> None:
        told = json.loads(members[MANIFEST])
        place = told
        *parents, leaf = path.split(".")
        for key in parents:
            place = place[key]
        place[leaf] = value
        members[MANIFEST] = json.dumps(told).encode()

    return changed(change)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_ghost(members: Members) -> bytes:
    told = json.loads(members[MANIFEST])
    told["members"]["ghost.txt"] = "0" * 64
    return as_zip({**members, MANIFEST: json.dumps(told).encode()})


def picture(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that claims a size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", body or zlib.compress(b"\0")) + chunk(b"IEND", b"")


ODD_NAMES = {
    "absolute": "/x.json", "two slashes": "//server/share.json", "climbing": "../x.json",
    "climbing inside": "assets/../../x.md", "climbing at the end": "assets/..", "drive": "C:/x.json",
    "drive with backslash": "C:\\x.json", "stream": "card.json:x.txt",
    "backslash": "assets\\x.png", "UNC": "\\\\server\\x.json", "escape": "\x1b[2Jx.json", "line feed": "a\nb.json",
    "right to left": "gnp.\u202ecard.json", "blank": " ", "suffix with a blank": "a.json ", "delete": "a\x7f.json",
}  # fmt: skip
ODD_SUFFIXES = (
    "bin", "pt", "pth", "ckpt", "pkl", "py", "pyc", "so", "dll", "exe", "sh", "bat", "lnk", "html", "svg", "js", "npy",
    "gguf", "zip", "charx",
)  # fmt: skip
BUNDLES: dict[str, tuple[Callable[[Members], bytes], str]] = {
    **{f"name: {why}": (with_info(name), "not safe|does not belong|not listed") for why, name in ODD_NAMES.items()},
    **{f"kind: {suffix}": (with_info(f"a.{suffix}"), "does not belong") for suffix in ODD_SUFFIXES},
    "link": (with_info("link.txt", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16), "no plain file"),
    "pipe": (with_info("pipe.txt", external_attr=(stat.S_IFIFO | 0o666) << 16), "no plain file"),
    "device": (with_info("disk.txt", external_attr=(stat.S_IFBLK | 0o666) << 16), "no plain file"),
    "folder with content": (with_info("assets/", b"x"), "no plain file"),
    "name twice": (doubled, "same name"),
    "name in other case": (with_info(README.lower(), b""), "same name"),
    "unlisted": (with_info("more.txt"), "not listed"),
    "bomb": (with_info("b.txt", b"\0" * (9 << 20), compress_type=zipfile.ZIP_DEFLATED), "beyond belief"),
    "bomb of bzip2": (with_info("b.txt", b"\0" * (9 << 20), compress_type=zipfile.ZIP_BZIP2), "beyond belief"),
    "bomb of lzma": (with_info("b.txt", b"\0" * (9 << 20), compress_type=zipfile.ZIP_LZMA), "beyond belief"),
    "many members": (changed(lambda m: m.update({f"{n}.txt": b"" for n in range(99)})), "more than 64"),
    "size that lies, small": (of_directory(24, "<I", 3), "not a readable zip|another size"),
    "size that lies, large": (of_directory(24, "<I", 1 << 20), "not a readable zip|another size|beyond belief"),
    "size beyond the limit": (of_directory(24, "<I", (1 << 32) - 2), "larger than"),
    "offset beyond the file": (of_directory(42, "<I", 1 << 30), "not a readable zip"),
    "unknown compression": (of_directory(10, "<H", 97), "not a readable zip"),
    "encrypted": (of_directory(8, "<H", 1), "encrypted"),
    "checksum that lies": (of_directory(16, "<I", 7), "not a readable zip"),
    "another name inside": (patched(AVATAR.encode(), AVATAR.replace("main", "nain").encode()), "is missing"),
    "ends early": (lambda m: zip_of(m)[:-30], "not a readable zip"),
    "nothing": (lambda m: b"", "not a readable zip"),
    "hash of another": (lambda m: as_zip({**m, README: b"other"}), "hash of README.md is wrong"),
    "listed and missing": (with_ghost, "ghost.txt is listed but missing"),
    "card is a list": (changed(put(CARD, b"[1]")), "no JSON object"),
    "card is deep": (changed(put(CARD, b'{"a":' * 90_000)), "not valid JSON"),
    "card is UTF-16": (changed(put(CARD, "{}".encode("utf-16"))), "not valid JSON"),
    "card with half a letter": (changed(put(CARD, b'{"a": "\xff"}')), "not valid JSON"),
    "card without data": (changed(put(CARD, b"{}")), "card.json has no data"),
    "card with data that is a list": (changed(put(CARD, b'{"data": []}')), "card.json has no data"),
    "manifest is deep": (lambda m: as_zip({**m, MANIFEST: b"[" * 90_000}), "not valid JSON"),
    "manifest with an endless number": (of_manifest("adapter.rank", 10**400), "wrong at adapter.rank"),
    "rank below nothing": (of_manifest("adapter.rank", -1), "wrong at adapter.rank"),
    "rank of an abyss": (of_manifest("adapter.rank", 1 << 40), "wrong at adapter.rank"),
    "rank of a truth": (changed(manifest_with(adapter={"rank": "2; rm", "alpha": 4})), "wrong at adapter.rank"),
    "name that is nothing": (of_manifest("character.name", ""), "wrong at character.name"),
    "name that is a list": (of_manifest("character.name", ["x"]), "wrong at character.name"),
    "temperature that is no number": (of_manifest("chat.temperature", float("nan")), "wrong at chat.temperature"),
    "temperature without end": (of_manifest("chat.temperature", float("inf")), "wrong at chat.temperature"),
    "reply without end": (of_manifest("chat.max_tokens", 10**12), "wrong at chat.max_tokens"),
    "unknown field": (of_manifest("character.run", "os.system"), "wrong at character.run"),
    "version of the future": (of_manifest("format_version", 3), "version 3"),
    "version that is a text": (of_manifest("format_version", "\x1b[31m2"), "version"),
    "config imports": (changed(config_with(auto_mapping={"parent_library": "os"})), "import code"),
    "config is a list": (changed(put(ADAPTER_CONFIG, b"[]")), "no JSON object"),
    "config of no LoRA": (changed(config_with(peft_type="PROMPT_TUNING")), "not LoRA"),
    "config of another strength": (changed(config_with(lora_alpha=4e9)), "rank or alpha"),
    "config with DoRA": (changed(config_with(use_dora=True)), "use_dora"),
    "config with ranks of its own": (changed(config_with(rank_pattern={".*": 1})), "rank_pattern"),
    "config with strengths of its own": (changed(config_with(alpha_pattern={".*": 10**6})), "alpha_pattern"),
    "config of another scale": (changed(config_with(use_rslora=True)), "use_rslora"),
    "config with whole modules": (changed(config_with(modules_to_save=["lm_head"])), "modules_to_save"),
    "weights are a zip": (adapter(as_zip({"data.pkl": b"cos\nsystem\n."})), "no header length"),
    "weights are a pickle": (adapter(b"\x80\x04cos\nsystem\n."), "header"),
    "header without end": (adapter(struct.pack("<Q", (1 << 64) - 1) + b"{}"), "no header length"),
    "header longer than the file": (adapter(struct.pack("<Q", 4096) + b"{}"), "truncated"),
    "header is a list": (adapter(header([1])), "not a table"),
    "header is deep": (adapter(struct.pack("<Q", 80_000) + b"[" * 80_000), "not JSON"),
    "header names twice": (adapter(struct.pack("<Q", 15) + b'{"a":{},"a":{}}'), "twice"),
    "tensors overlap": (adapter(header({A: entry(), B: entry(shape=(8, RANK))}, b"\0" * 64)), "does not begin"),
    "tensors with a hole": (adapter(header({A: entry(offsets=(8, 72))}, b"\0" * 72)), "does not begin"),
    "tensor backwards": (adapter(header({A: entry(offsets=(64, 0))}, b"\0" * 64)), "has -64 bytes"),
    "tensor below nothing": (adapter(header({A: entry(offsets=(-64, 0))}, b"\0" * 64)), "unknown dtype or a number"),
    "tensor of an abyss": (adapter(header({A: entry(shape=(1 << 40, 1 << 40))}, b"\0" * 64)), "bytes where its shape"),
    "tensor of truths": (adapter(header({A: entry(shape=(True, 8))}, b"\0" * 64)), "number that is none"),
    "tensor of no type": (adapter(header({A: entry(dtype="__class__")}, b"\0" * 64)), "unknown dtype"),
    "tensor of a type that is a list": (adapter(header({A: entry(dtype=["F32"])}, b"\0" * 64)), "unknown dtype"),  # type: ignore[arg-type]
    "tensor of one side": (adapter(safetensors({A: np.ones(16, "<f4")})), "no LoRA of rank"),
    "tensor of three sides": (adapter(safetensors({A: np.ones((RANK, 4, 2), "<f4")})), "no LoRA of rank"),
    "tensor of nothing": (adapter(safetensors({A: np.ones((RANK, 0), "<f4")})), "no LoRA of rank"),
    "tensor of float64": (adapter(safetensors({A: np.ones((RANK, 8))}, "F64")), "type F64"),
    "tensor of fp8": (adapter(safetensors({A: np.ones((RANK, 8), "u1")}, "F8_E4M3")), "type F8_E4M3"),
    "infinite": (adapter(safetensors({A: ONES * np.inf, B: ONES.T.copy()})), "no numbers"),
    "infinite in bf16": (adapter(safetensors({A: np.full((RANK, 8), 0x7F80, "<u2")}, "BF16")), "no numbers"),
    "not a number in fp16": (adapter(safetensors({A: np.full((RANK, 8), np.nan, "<f2")}, "F16")), "no numbers"),
    "name with a terminal's orders": (adapter(safetensors({"\x1b]0;x\x07": ONES})), "does not belong"),
    "name of a whole weight": (adapter(safetensors({"language_model.lm_head.weight": ONES})), "does not belong"),
    "name that goes on": (adapter(safetensors({A + ".x": ONES})), "does not belong"),
    "half": (adapter(safetensors({A: ONES})), "lacks the tensor|all zeros"),
    "picture of a claim": (changed(put(AVATAR, picture(60_000, 60_000))), "more than 4096|not a readable PNG"),
    "picture of another kind": (changed(put(AVATAR, b"GIF89a" + bytes(40))), "not a readable PNG"),
    "picture that ends early": (changed(put(AVATAR, png()[:-40])), "not a readable PNG"),
    "picture with texts without end": (
        changed(put(AVATAR, png()[:-12] + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"A" * (90 << 20))) + png()[-12:])),
        "not a readable PNG|beyond belief",
    ),
}  # fmt: skip


def test_there_are_enough_of_them() -> None:
    assert len(BUNDLES) + len(CARDS) >= 110


@pytest.mark.parametrize("case", BUNDLES)
def test_a_hostile_bundle_is_refused_in_one_line(good: Path, tmp_path: Path, case: str) -> None:
    build, words = BUNDLES[case]
    path = tmp_path / "hostile.charx"
    path.write_bytes(build(contents(good)))
    before = sorted(str(file) for file in tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words) as refused:
        read_bundle(path)
    told = str(refused.value)
    assert told.isprintable() and len(told) < 700
    assert sorted(str(file) for file in tmp_path.rglob("*")) == before


# cards


def card_of(**data: object) -> dict[str, object]:
    return {"spec": "chara_card_v3", "spec_version": "3.0", "data": {"name": "Pip", "description": "A robot.", **data}}


def png_with(*chunks: bytes) -> bytes:
    return png()[:-12] + b"".join(chunks) + png()[-12:]


def zipped_card(name: str, data: bytes, **values: object) -> bytes:
    out = io.BytesIO()
    info = zipfile.ZipInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, data)
    return out.getvalue()


CARDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not"),
    "a number": (b"7", "not a character card"),
    "deep": (b'{"data":' * 50_000, "not JSON"),
    "deep inside": (json.dumps(card_of(extensions=json.loads("[" * 900 + "]" * 900))).encode(), "not JSON"),
    "larger than a card": (b'{"data": "' + b"x" * MAX_TEXT + b'"}', "more than"),
    "base64 of nothing": (png_with(chunk(b"tEXt", b"chara\0!!!!")), "not"),
    "text of a bomb": (png_with(chunk(b"zTXt", b"ccv3\0\0" + zlib.compress(b"A" * (64 << 20)))), "more than"),
    "international bomb": (png_with(chunk(b"iTXt", b"ccv3\0\1\0\0\0" + zlib.compress(b"A" * (64 << 20)))), "more than"),
    "damaged text": (png_with(chunk(b"zTXt", b"ccv3\0\0garbage")), "damaged"),
    "chunk without end": (png()[:-12] + struct.pack(">I", 1 << 31) + b"tEXtchara\0", "ends too early"),
    "zip without a card": (as_zip({"x.txt": b"x"}), "without one card"),
    "zip with two cards": (as_zip({"a/card.json": b"{}", "b/card.json": b"{}"}), "without one card"),
    "zip with a card outside": (as_zip({"../card.json": b"{}"}), "without one card"),
    "zip with a link": (
        zipped_card("card.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16), "link or encrypted",
    ),
    "zip with a bomb": (
        zipped_card("card.json", b" " * (7 << 20), compress_type=zipfile.ZIP_DEFLATED), "too large",
    ),
    "zip of many": (as_zip({f"{n}.txt": b"" for n in range(2100)}), "more than a card has"),
    "zip that ends early": (card_charx(card_of(), {})[:-9], "damaged zip|not"),
    "half letters": (json.dumps(card_of(name="\ud800Pip")).encode(), ""),
    "name of a list": (json.dumps(card_of(name={"a": 1})).encode(), ""),
    "spec without end": (json.dumps({**card_of(), "spec_version": 1e308}).encode(), ""),
    "endless number": (b'{"spec":"chara_card_v2","data":{"name":"Pip","description":1e999}}', ""),
    "base64 of a zip": (png_with(chunk(b"tEXt", b"chara\0" + base64.b64encode(as_zip({"a": b"b"})))), "not"),
    "book of itself": (json.dumps(card_of(character_book={"entries": {"entries": {"entries": []}}})).encode(), ""),
    "macros that call": (json.dumps(card_of(description="{{7*7}} {{config.items()}} <% x %> ${jndi:x}")).encode(), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CARDS)
def test_a_hostile_card_is_refused_in_one_line_or_is_only_text(tmp_path: Path, case: str) -> None:
    data, words = CARDS[case]
    path = tmp_path / "card.bin"
    path.write_bytes(data)
    if words:
        with pytest.raises(InputError, match=words) as refused:
            read_card(path)
        assert str(refused.value).isprintable()
    else:
        json.dumps(read_card(path).document).encode("utf-8")


def test_texts_of_a_card_are_never_run(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(card_json(card_of(description="{{7*7}} {{config.items()}}")))
    assert read_card(path).description == "{{7*7}} {{config.items()}}"


# what a terminal would obey

ORDERS = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\r"


def test_a_terminal_obeys_no_text_of_a_bundle(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "orders.charx"
    members = contents(good)
    told = json.loads(members[MANIFEST])
    told["character"] |= {"name": f"Pip{ORDERS}\nand more", "author": ORDERS, "license": ORDERS, "class_noun": ORDERS}
    told["evaluation"] = {ORDERS: 1.0}
    path.write_bytes(zip_of({**members, MANIFEST: json.dumps(told).encode()}))
    for arguments in ([], ["--json"]):
        result = CliRunner().invoke(app, ["inspect", str(path), *arguments])
        assert result.exit_code == 0 and "Pip" in result.output
        assert all(letter.isprintable() or letter == "\n" for letter in result.output)
    shown = json.loads(CliRunner().invoke(app, ["inspect", str(path), "--json"]).stdout)
    assert shown["character"]["author"] == ORDERS


def test_a_terminal_obeys_no_name_of_a_card(tmp_path: Path) -> None:
    path = tmp_path / "card.png"
    path.write_bytes(card_png(card_of(name=f"Pip{ORDERS}\nx"), png()))
    with pytest.raises(InputError, match="ordinary character card of Pip") as refused:
        read_bundle(path)
    assert str(refused.value).isprintable()


def test_a_terminal_obeys_no_reply(capsys: pytest.CaptureFixture[str]) -> None:
    from charforge.chat.conversation import Piece
    from charforge.chat.messages import Reply
    from charforge.chat.turn import Said
    from charforge.cli.terminal import show_as_said

    # an order may come in pieces
    pieces = [Piece(f"Hello{ORDERS[:2]}"), Piece(f"{ORDERS[2:]}\nthere")]
    show_as_said(iter([*pieces, Said(Reply("Hello", None, None), "Hello", "stop", (1, 1))]))
    out = capsys.readouterr().out
    assert "Hello" in out and "\nthere" in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)


# what other programs make of a bundle is no harm


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("top", ["", "Pip/"])
def test_order_compression_times_and_comments_are_not_the_readers_business(
    good: Path, tmp_path: Path, compression: int, top: str
) -> None:
    path = tmp_path / "anew.charx"
    with zipfile.ZipFile(path, "w", compression, allowZip64=True) as archive:
        archive.comment = b"made with something else"
        for name, data in sorted(contents(good).items(), reverse=True):
            info = zipfile.ZipInfo(top + name, (2026, 11, 27, 1, 2, 4))
            info.compress_type, info.comment, info.create_system = compression, b"x", 0
            # read-only, hidden, archive: attributes of another system
            info.external_attr = 0x27
            archive.writestr(info, data)
        archive.writestr(f"{top}Thumbs.db", b"x")
        archive.writestr(f"{top}desktop.ini", b"x")
        archive.writestr("__MACOSX/._Pip", b"x")
    assert read_bundle(path).contents == read_bundle(good).contents


def test_an_adapter_of_its_own_bytes_is_whole(good: Path) -> None:
    assert read_bundle(good).contents[ADAPTER] == adapter_bytes()


def test_a_picture_with_a_bomb_behind_its_pixels_costs_nothing(good: Path, tmp_path: Path) -> None:
    import tracemalloc

    members = contents(good)
    bomb = picture(8, 8, zlib.compress(b"\0" * (64 << 20)))
    path = tmp_path / "bomb.charx"
    path.write_bytes(changed(put(AVATAR, bomb))(members))
    tracemalloc.start()
    read_bundle(path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
