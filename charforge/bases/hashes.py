"""SHA-256 of big files, remembered: reading 29 GB again at every load would cost a minute each time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from charforge.bases.cache import cache_folder
from charforge.files import sha256_file, write_atomic

# hashing less than this takes no noticeable time, so it is always done
REMEMBER_FROM_BYTES = 16 * 2**20
BLOCK_BYTES = 8 * 2**20


def file_hash(file: Path, report: Callable[[int, int], None] | None = None) -> str:
    """Hex SHA-256 of ``file``; of a big file that has not been touched since, the one computed before.

    "Not touched" is judged by path, size, modification time (ns) and inode, as make and git do.
    """
    if file.stat().st_size < REMEMBER_FROM_BYTES:
        return sha256_file(file)
    known = _known().get(str(file.resolve()))
    if known and known[:-1] == _mark(file):
        return str(known[-1])
    before = _mark(file)
    found = hash_blocks(file, hashlib.sha256(), report)
    if _mark(file) == before:
        remember_hash(file, found)
    return found


def content_hash(files: list[Path], report: Callable[[int, int], None] | None = None) -> str:
    """One SHA-256 over the hashes of ``files`` in order: the identity that bundles record.

    Hashes of big files that have not changed are remembered. Files count as they are: the same tensors cut into
    shards are another base.
    """
    return hashlib.sha256("".join(file_hash(file, report) for file in files).encode()).hexdigest()


def other_weights(name: str, trained: str, here: str) -> str:
    """In words that what was trained on the weights ``trained`` (a hash) of ``name`` does not fit those ``here``."""
    source = "the version of charforge that came with those" if name == "mini" else "a base folder that has those"
    return (
        f"was trained on other weights of {name} ({trained[:12]}) than are here ({here[:12]}), and an adapter fits no "
        f"others: train it again, or use {source}"
    )


def hash_blocks(file: Path, digest: hashlib._Hash, report: Callable[[int, int], None] | None = None) -> str:
    """Feed ``file`` to ``digest``, telling ``report(bytes done, bytes in all)``, and return its hex form."""
    total, done = file.stat().st_size, 0
    with file.open("rb", buffering=0) as opened:
        while block := opened.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if report:
                report(done, total)
    return digest.hexdigest()


def remember_hash(file: Path, sha256: str) -> None:
    """Store what was computed for ``file`` as it is now."""
    if file.stat().st_size < REMEMBER_FROM_BYTES:
        return
    known = {path: entry for path, entry in _known().items() if Path(path).exists()}
    known[str(file.resolve())] = [*_mark(file), sha256]
    write_atomic(_store(), json.dumps(known, indent=1))


def _mark(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _store() -> Path:
    return cache_folder() / "hashes.json"


def _known() -> dict[str, list]:
    # a lost or damaged store costs one more hashing and nothing else
    try:
        known = json.loads(_store().read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    right = isinstance(known, dict) and all(isinstance(e, list) and len(e) == 4 for e in known.values())
    return known if right else {}
