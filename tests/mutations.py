"""Seeded damage to files: bytes, text, JSON, and containers whose checksums are mended so that damage gets inside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = (
    "\ud800", "\udfff\ud800", "\0", "\u202e", "\ufeff", "\u2028", "\x85", "e\u0301" * 9, "\U0001f916", "：", "。",
    "{{user}}", "{{char}}", "{{random::a::b}}", "<START>", "<USER>:", "User:", "Pip:", "---", "***", "# ", "[image: 99]",
    "![x](a b.png)", "<think>", "</think>", "data:image/png;base64,AAAA", "http://x.y/z.png", "../../x", "C:\\x.png",
    "%00", "null", "NaN", "1e999", "-1", "''", '""', "(" * 300, "[" * 3000, "*" * 500, "a" * 5000, "\n" * 300, " : " * 200,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, 2**70, "", "x", "\ud800", [], {}, [[]], {"": None}, ["a", 1, None], {"name": {"a": 1}},
    "a" * 3000, [{}] * 30,
)  # fmt: skip
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\xff\xff", b"\0\0")


def mutated(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """``content`` with one to four pieces of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        content = rng.choice(_fitting(content))(content, rng, others)[: 4 << 20]
    return content


Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _fitting(content: bytes) -> list[Mutation]:
    ways: list[Mutation] = [flipped, replaced_number, cut, without_a_piece, twice_a_piece, inserted, spliced]
    head = content[:2000].lstrip()
    if content.startswith(PNG):
        ways += [changed_chunk] * 6
    elif b"PK\x05\x06" in content:
        ways += [changed_member] * 9
    elif head[:1] in (b"{", b"["):
        ways += [changed_json] * 9 + [with_text] * 3
    elif content[8:9] == b"{":
        ways += [changed_header] * 9
    elif b"\0" not in head:
        ways += [with_text] * 6 + [changed_line] * 3
    return ways


# bytes


def flipped(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    raw = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 30))):
        if raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def replaced_number(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    at, number = rng.randrange(len(content) + 1), rng.choice(NUMBERS)
    if rng.random() < 0.5:
        # lengths and sizes stand at the beginning
        at = min(at, rng.randrange(120))
    return content[:at] + number + content[at + len(number) :]


def cut(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    return content[: rng.choice((0, 1, rng.randrange(len(content) + 1), max(0, len(content) - rng.randrange(1, 90))))]


def without_a_piece(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 2, 9, 200)) :]


def twice_a_piece(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    at, size = rng.randrange(len(content) + 1), rng.choice((1, 9, 200, 3000))
    return content[:at] + content[at : at + size] * rng.choice((2, 2, 40)) + content[at + size :]


def inserted(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 4, 100))) + content[at:]


def spliced(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


# text


def with_text(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TEXTS).encode("utf-8", "surrogatepass") + content[at:]


def changed_line(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    way = rng.randrange(5)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif way == 2:
        lines[at] = lines[at].replace(b":", "：".encode())
    elif way == 3:
        lines[at] = lines[at] * rng.choice((2, 60))
    else:
        rng.shuffle(lines)
    return rng.choice((b"\n", b"\n", b"\r\n", b"\r")).join(lines)


# JSON


def changed_json(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """One value of a document, or of one line of JSON Lines, becomes something else."""
    lines = content.split(b"\n")
    try:
        return _dumped(_changed(json.loads(content), rng))
    except (ValueError, RecursionError):
        pass
    at = rng.randrange(len(lines))
    try:
        lines[at] = _dumped(_changed(json.loads(lines[at]), rng))
    except (ValueError, RecursionError):
        return with_text(content, rng, others)
    return b"\n".join(lines)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        way = rng.randrange(8)
        if way == 0:
            return {k: v for k, v in value.items() if k != key}
        if way == 1:
            return {(rng.choice(TEXTS) if k == key else k): v for k, v in value.items()}
        return {k: (_changed(v, rng) if k == key else v) for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        way = rng.randrange(8)
        if way == 0:
            return value[:at] + value[at + 1 :]
        if way == 1:
            return value[: at + 1] * rng.choice((2, 50))
        return [_changed(v, rng) if n == at else v for n, v in enumerate(value)]
    if isinstance(value, str) and rng.random() < 0.5:
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(TEXTS) + value[at:]
    if rng.random() < 0.05:
        deep: Any = value
        for _ in range(rng.choice((50, 900))):
            deep = [deep]
        return deep
    return rng.choice(VALUES)


# containers


def changed_header(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage inside the header of a safetensors file, its length mended more often than not."""
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content):
        return flipped(content, rng, others)
    header = changed_json(content[8 : 8 + length], rng, others)
    told = len(header) if rng.random() < 0.8 else rng.choice((length, 0, 1 << 20, (1 << 64) - 1))
    return struct.pack("<Q", told) + header + content[8 + length :]


def changed_chunk(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage inside one chunk of a PNG, with its length and checksum mended."""
    chunks, at = [], len(PNG)
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if at + 12 + length > len(content):
            break
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return flipped(content, rng, others)
    which = rng.randrange(len(chunks))
    kind, body = chunks[which]
    way = rng.randrange(4)
    if way == 0:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[which])
    elif way == 1:
        del chunks[which]
    else:
        chunks[which] = (kind, _inside(kind, body, rng))
    framed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return PNG + b"".join(framed) + content[at:]


def _inside(kind: bytes, body: bytes, rng: random.Random) -> bytes:
    keyword, found, text = body.partition(b"\0")
    if kind == b"tEXt" and found and rng.random() < 0.8:
        # a card: base64 of JSON
        try:
            return keyword + b"\0" + base64.b64encode(changed_json(base64.b64decode(text), rng, [b""]))
        except ValueError:
            pass
    return rng.choice((flipped, replaced_number, cut, inserted, twice_a_piece))(body, rng, [body])


def changed_member(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Damage inside one member of a zip, or to its name; a bundle's list of hashes follows."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return flipped(content, rng, others)
    if not members:
        return flipped(content, rng, others)
    at = rng.randrange(len(members))
    name, data = members[at]
    way = rng.randrange(6)
    if way == 0:
        members[at] = (
            rng.choice(("../x.json", "/etc/x", "a\\b.json", "__MACOSX/._a", "x/", name.upper(), f"top/{name}")),
            data,
        )
    elif way == 1:
        del members[at]
    elif way == 2:
        members = [(f"top/{one}", held) for one, held in members]
    else:
        members[at] = (name, mutated(data, rng, [data]))
    return zipped(rehashed(members) if rng.random() < 0.9 else members, rng)


def rehashed(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The members with the list of hashes in a bundle's manifest mended."""
    out = []
    for name, data in members:
        if name.endswith("charforge.json"):
            try:
                manifest = json.loads(data)
                manifest["members"] = {n: hashlib.sha256(d).hexdigest() for n, d in members if n != name}
                data = json.dumps(manifest).encode()
            except (ValueError, TypeError, RecursionError):
                pass
        out.append((name, data))
    return out


def zipped(members: Sequence[tuple[str, bytes]], rng: random.Random) -> bytes:
    """A zip of the members; some have odd names."""
    out = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new,
    ):
        # the same name twice is what is meant
        warnings.simplefilter("ignore")
        for name, data in members:
            new.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()
