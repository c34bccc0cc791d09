"""Fuzzing of the readers of bundles, cards and adapters that follows which lines an input reaches (atheris).

    pip install atheris
    python tests/fuzz_coverage.py --seconds 900 --keep FOLDER

Inputs come from tests/fuzz_seeds.py: half of them are changed by libFuzzer, half by tests/mutations.py, which mends
checksums so that damage gets inside. The first byte of an input says who reads it. As in tests/fuzz_readers.py every
input must end in a result or a CharforgeError, without writing anything, starting a program or opening a connection.
What fails is kept in FOLDER, once for each line it came from; a hang or too much memory ends the run (libFuzzer's
`-timeout` and `-rss_limit_mb`).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["charforge", "zipfile", "json", "PIL"], enable_loader_override=False):
    from fuzz_readers import TARGETS, Touched, guarded, place_of, watched
    from fuzz_seeds import SEEDS
    from mutations import mutated

    from charforge.errors import CharforgeError

READERS = ("bundle", "card", "weights")
SUFFIXES = {"bundle": (".charx",), "card": (".png", ".charx", ".json"), "weights": (".safetensors",)}
LARGEST = 1 << 18


def seeds_of(reader: str) -> list[bytes]:
    """The valid files that ``reader`` starts from."""
    return [seed.content for seed in SEEDS if seed.target == reader and len(seed.content) < LARGEST]


def reader_of(data: bytes) -> tuple[str, str, bytes]:
    """Who reads an input, the ending of its file, and what is in it."""
    reader = READERS[data[0] % len(READERS)]
    suffixes = SUFFIXES[reader]
    return reader, suffixes[data[0] // len(READERS) % len(suffixes)], data[1:]


def changed(data: bytes, largest: int, seed: int) -> bytes:
    """Another input made from ``data``: libFuzzer's way or that of tests/mutations.py."""
    rng = random.Random(seed)
    if not data or rng.random() < 0.5:
        return bytes(atheris.Mutate(data, largest))
    reader, _, content = reader_of(data)
    return (data[:1] + mutated(content, rng, seeds_of(reader)))[:largest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    a = parser.parse_args()
    a.keep.mkdir(parents=True, exist_ok=True)
    ends: Counter[tuple[str, str]] = Counter()
    seen: set[str] = set()
    scratch = tempfile.TemporaryDirectory()
    corpus = Path(scratch.name) / "corpus"
    corpus.mkdir()
    for first, reader in enumerate(READERS):
        for number, content in enumerate(seeds_of(reader)):
            for which in range(len(SUFFIXES[reader])):
                start = bytes([first + which * len(READERS)])
                (corpus / f"{reader}-{number}-{which}").write_bytes(start + content)
    sys.addaudithook(watched)

    def once(data: bytes) -> None:
        if not data:
            return
        reader, suffix, content = reader_of(data)
        path = Path(scratch.name) / f"input{suffix}"
        path.write_bytes(content)
        try:
            with guarded():
                TARGETS[reader](path, 1)
            end = "read"
        except CharforgeError:
            end = "refused"
        except (Touched, Exception) as error:
            end, where = "failed", f"{type(error).__name__} {place_of(error)}"
            if where not in seen:
                seen.add(where)
                (a.keep / f"{reader}-{len(seen)}{suffix}").write_bytes(content)
                sys.stderr.write(f"FOUND {reader} {where}: {str(error)[:200]}\n")
        ends[reader, end] += 1
        if sum(ends.values()) % 5000 == 0:
            sys.stderr.write(f"{dict(ends)}\n")

    limits = [f"-max_total_time={a.seconds}", f"-seed={a.seed}", f"-max_len={LARGEST}", "-timeout=20"]
    atheris.Setup(
        [sys.argv[0], *limits, "-rss_limit_mb=2048", f"-artifact_prefix={a.keep}/", str(corpus)],
        once,
        custom_mutator=changed,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
