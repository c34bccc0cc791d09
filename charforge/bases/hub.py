"""Fetching BAGEL from the model hub: pinned, resumable, checked, and complete or not there at all.

The big files' SHA-256 and the small files' git hashes come from the hub's own metadata of the pinned commit; for
``ema.safetensors`` size and SHA-256 are known here too. The download itself goes through huggingface_hub's
``http_get`` into ``.incomplete/``: its public download functions (2.4) throw a half-fetched file away when the
process ends, which 29 GB do not forgive.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charforge.bases.cache import base_folder
from charforge.bases.hashes import file_hash, hash_blocks, remember_hash
from charforge.bases.where import SOURCE, changed_files, read_source
from charforge.errors import InputError, MachineError
from charforge.files import replace_file, write_atomic
from charforge.progress import Report, byte_progress, counting

if TYPE_CHECKING:
    from tqdm import tqdm

# beyond the files themselves: room for the cache's own small files and for the rest of the machine
SPARE_BYTES = 2**30


@dataclass(frozen=True)
class Published:
    """What to fetch. ``needed`` must be offered, ``optional`` is taken where it is; ``known`` is (bytes, SHA-256)."""

    name: str
    repository: str
    commit: str
    needed: tuple[str, ...]
    optional: tuple[str, ...]
    known: dict[str, tuple[int, str]] = field(default_factory=dict)


# The commit at which independent users have the repository in their hub caches (snapshots/5019f57d…) and against which
# SGLang's BAGEL parity test is written; that test states the size and SHA-256 of ema.safetensors at this commit too.
# The size equals what the published shapes add up to (bagel.md section 1). None of this was read off the hub itself.
BAGEL = Published(
    name="bagel",
    repository="ByteDance-Seed/BAGEL-7B-MoT",
    commit="5019f57d168e5816e8f3f701b17cc816bb7cf24b",
    needed=("llm_config.json", "vit_config.json", "ema.safetensors", "ae.safetensors", "vocab.json", "merges.txt"),
    # charforge reads no preprocessor_config.json: servers of merged weights do
    optional=(
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "preprocessor_config.json",
    ),
    known={
        "ema.safetensors": (29_214_685_336, "0b41c43835fd737b8c948e604870da522c091dcf151f3e8d55f84781765ee1a3"),
    },
)


@dataclass(frozen=True)
class Offer:
    """One file as the hub describes it: ``sha256`` of files in large storage, ``git_hash`` (SHA-1) of the others."""

    name: str
    bytes: int
    sha256: str | None
    git_hash: str | None


def pull_base(published: Published = BAGEL, revision: str | None = None, endpoint: str | None = None) -> Path:
    """Fetch ``published`` into the cache and return its folder; go on where an earlier pull stopped.

    ``revision`` (a commit, branch or tag) is the pinned commit unless given; the commit it resolves to is written
    down. A complete copy of another commit is never replaced silently. ``charforge_source.json`` is written last,
    after size and hash of every file and the headers of the weights have been checked.

    Raises InputError for a revision that does not exist or that is not the one already here, MachineError in one line
    when the hub, the network or the disk fail, or when what came is not what was promised.
    """
    folder = base_folder(published.name)
    revision = revision or published.commit
    if _here(folder, revision):
        return folder
    with _one_pull_at_a_time(folder):
        with _hub_errors(published, revision):
            commit, offers = _ask(published, revision, endpoint)
        if _here(folder, commit, asked=revision):
            return folder
        _check_known(published, commit, offers)
        # from here on the folder is being worked on: without the mark nobody takes it for a base
        (folder / SOURCE).unlink(missing_ok=True)
        missing = [offer for offer in offers if not _is_right(folder / offer.name, offer)]
        _check_space(folder, missing)
        for offer in missing:
            with _hub_errors(published, revision):
                _fetch(published, commit, offer, folder, endpoint)
        # torch is needed from here on, and not for a line about the network
        from charforge.bases.verify import check_folder

        check_folder(folder, published.name)
        _write_source(published, commit, revision, offers, folder)
        shutil.rmtree(folder / ".incomplete", ignore_errors=True)
    return folder


def _here(folder: Path, revision: str, asked: str | None = None) -> bool:
    """Whether a complete copy of ``revision`` is in ``folder``. Raises InputError when it is of another commit."""
    source = read_source(folder)
    if source is None or changed_files(folder, source):
        return False
    if source["commit"] == revision:
        return True
    # a branch or tag can only be compared once the hub has said which commit it is
    if asked is None and not _is_commit(revision):
        return False
    raise InputError(
        f"{folder} holds commit {source['commit']} and {asked or revision} is another"
        f"{' (' + revision + ')' if asked else ''}: keep it with --revision {source['commit']}, or delete the folder "
        "and pull again; adapters trained on one do not fit the other"
    )


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(letter in "0123456789abcdef" for letter in revision)


def _ask(published: Published, revision: str, endpoint: str | None) -> tuple[str, list[Offer]]:
    """The commit behind ``revision`` and what it offers of the files wanted, small ones first."""
    from huggingface_hub import HfApi

    told = HfApi(endpoint=endpoint).model_info(published.repository, revision=revision, files_metadata=True, timeout=30)
    offered = {file.rfilename: file for file in told.siblings or []}
    absent = [name for name in published.needed if name not in offered]
    # tokenizer.json says all that vocab.json and merges.txt say
    if "tokenizer.json" in offered:
        absent = [name for name in absent if name not in ("vocab.json", "merges.txt")]
    if absent:
        raise MachineError(f"{published.repository} at {revision} has no {', '.join(absent)}: it is no BAGEL")
    if told.sha is None:
        raise MachineError(
            f"the hub does not say which commit {revision} of {published.repository} is: nothing fetched"
        )
    wanted = [name for name in (*published.needed, *published.optional) if name in offered]
    return told.sha, sorted((_offer(published, offered[name]) for name in wanted), key=lambda offer: offer.bytes)


def _offer(published: Published, file: Any) -> Offer:
    size = file.lfs.size if file.lfs else file.size
    sha256 = file.lfs.sha256 if file.lfs else None
    if size is None or not (sha256 or file.blob_id):
        raise MachineError(f"the hub gives no size and hash of {file.rfilename} in {published.repository}: not fetched")
    return Offer(file.rfilename, size, sha256, file.blob_id)


def _check_known(published: Published, commit: str, offers: Sequence[Offer]) -> None:
    if commit != published.commit:
        return
    for offer in offers:
        if offer.name in published.known and published.known[offer.name] != (offer.bytes, offer.sha256):
            size, sha256 = published.known[offer.name]
            raise MachineError(
                f"the hub offers {offer.name} with {offer.bytes:,} bytes and hash {str(offer.sha256)[:12]}…, the "
                f"pinned commit has {size:,} and {sha256[:12]}…: not fetched"
            )


def _check_space(folder: Path, missing: Sequence[Offer]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(offer.bytes - _size(_partial(folder, offer)) for offer in missing)
    free = shutil.disk_usage(folder).free
    if missing and free < needed + SPARE_BYTES:
        raise MachineError(
            f"fetching needs {(needed + SPARE_BYTES) / 1e9:.1f} GB in {folder} and {free / 1e9:.1f} GB are free: make "
            "room, or set CHARFORGE_CACHE to a folder on another disk"
        )


def _partial(folder: Path, offer: Offer) -> Path:
    # named by content: what is left of another revision is never continued
    return folder / ".incomplete" / f"{offer.name}.{(offer.sha256 or offer.git_hash or '')[:16]}.part"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _fetch(published: Published, commit: str, offer: Offer, folder: Path, endpoint: str | None) -> None:
    """Fetch or continue one file, check it, move it into ``folder``."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    partial = _partial(folder, offer)
    partial.parent.mkdir(exist_ok=True)
    if _size(partial) > offer.bytes:
        partial.unlink()
    url = hf_hub_url(published.repository, offer.name, revision=commit, endpoint=endpoint)
    # a compressed answer could not be continued by byte range
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with partial.open("ab") as out, counting(f"fetching {offer.name}", "bytes") as report:
        http_get(
            url,
            out,
            resume_size=out.tell(),
            headers=headers,
            expected_size=offer.bytes,
            displayed_filename=offer.name,
            tqdm_class=_reporting_bar(report, offer.bytes),
        )
    if not _has_hash(partial, offer):
        partial.unlink()
        raise MachineError(
            f"{offer.name} arrived with another hash than the hub promised: deleted; run the same command again"
        )
    replace_file(partial, folder / offer.name)
    if offer.sha256:
        remember_hash(folder / offer.name, offer.sha256)


def _reporting_bar(report: Report, total: int) -> type[tqdm]:
    """A bar as the hub's client wants one, that draws nothing itself and tells ``report``."""
    from tqdm import tqdm

    class ReportingBar(tqdm):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            self.fetched = int(keywords.get("initial", 0))
            super().__init__(*arguments, **{**keywords, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.fetched += int(n or 0)
            report(self.fetched, total)

    return ReportingBar


def _is_right(file: Path, offer: Offer) -> bool:
    """Whether ``file`` is what was offered; big files that were checked before are not read again."""
    if _size(file) != offer.bytes or not file.is_file():
        return False
    return file_hash(file) == offer.sha256 if offer.sha256 else _has_hash(file, offer)


def _has_hash(file: Path, offer: Offer) -> bool:
    if _size(file) != offer.bytes:
        return False
    with byte_progress(f"checking {offer.name}") as report:
        if offer.sha256:
            return hash_blocks(file, hashlib.sha256(), report) == offer.sha256
        # git's name of a file: SHA-1 over a short header and the content
        return hash_blocks(file, hashlib.sha1(b"blob %d\0" % offer.bytes), report) == offer.git_hash


def _write_source(published: Published, commit: str, revision: str, offers: Sequence[Offer], folder: Path) -> None:
    files = {
        offer.name: {"bytes": offer.bytes, "sha256": offer.sha256 or file_hash(folder / offer.name)} for offer in offers
    }
    source = {"repository": published.repository, "commit": commit, "revision": revision, "files": files}
    write_atomic(folder / SOURCE, json.dumps(source, indent=2))


@contextmanager
def _one_pull_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes appending to one partial file would ruin it."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MachineError(f"another process is fetching into {folder}: wait for it") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _hub_errors(published: Published, revision: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, in one line."""
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RevisionNotFoundError:
        raise InputError(
            f"{published.repository} has no revision {revision}: leave --revision out, or give a commit, branch or tag"
        ) from None
    except (GatedRepoError, RepositoryNotFoundError):
        raise MachineError(
            f"the hub does not give out {published.repository}: it does not exist there, or needs `hf auth login`"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise MachineError(
                f"the disk filled up while {published.name} was fetched: make room and run the same command again, "
                "it goes on where it stopped"
            ) from error
        raise _broken_off(published, error) from error
    except HTTPError as error:
        raise _broken_off(published, error) from error


def _broken_off(published: Published, error: Exception) -> MachineError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return MachineError(
        f"fetching {published.name} broke off ({(lines[0] if lines else type(error).__name__)[:160]}): check the "
        "connection and run the same command again, it goes on where it stopped"
    )
