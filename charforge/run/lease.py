"""Who works in a folder, on shared storage too: a file with its owner's name, who touches it every few seconds.

Locks of the operating system end at the machine, or depend on how a share is mounted. A lease is a file like any other:
its owner (process, machine) stands in it, and one that nobody has touched for :data:`SECONDS` is taken over. From a
process of this machine that is known to be dead it is taken at once. The library filelock does the work.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from filelock import LeaseCompromise, SoftFileLease, Timeout

from charforge.errors import MachineError
from charforge.files import write_atomic

SECONDS, HEARTBEAT = 120.0, 15.0
"""How long nobody may have touched a lease that is taken over, and how often its owner does. Network file systems
remember the times of files for up to a minute (NFS: acregmax): with less a living owner could look dead."""
POLL = 0.1
NAME = "lease"
"""What the lease of a run is called in its folder."""
_HOST_NAMESPACE = 0xEFFFFFFC
"""The process namespace of a machine itself, by its number in Linux; every container has another one."""


class Held(MachineError):
    """Another process holds what is wanted; the message says which."""


class Hold:
    """A lease that this process has. ``lost`` says how it was lost, None as long as it holds."""

    def __init__(self) -> None:
        self.lost: str | None = None

    def check(self) -> None:
        """Raises MachineError once another process has taken over: nothing may be written any more."""
        if self.lost is not None:
            raise MachineError(self.lost)


@contextmanager
def holding(file: Path, patience: float = 1.0, tell: Callable[[str], None] = lambda line: None) -> Iterator[Hold]:
    """Hold the lease in ``file`` inside the block; its folder is made.

    Waits ``patience`` seconds for an owner who gives signs of life, and for one who gives none until the lease may be
    taken over, which ``tell`` hears of. Raises Held naming the owner.
    """
    hold = Hold()

    def lost(how: LeaseCompromise) -> None:
        hold.lost = (
            f"another process has taken over {file.parent}: this one gave no sign of life for {SECONDS:.0f} seconds "
            f"({how.reason}; was it stopped, or the storage away?). What it saved before stands"
        )

    file.parent.mkdir(parents=True, exist_ok=True)
    lease = SoftFileLease(
        file, lease_duration=SECONDS, heartbeat_interval=HEARTBEAT, on_compromise=lost, thread_local=False
    )
    _acquire(lease, file, patience, tell)
    note = _note(file)
    try:
        since = datetime.now().isoformat(" ", "seconds")
        write_atomic(note, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
        yield hold
    finally:
        if hold.lost is None:
            note.unlink(missing_ok=True)
        # of what another process has taken over nothing is removed
        lease.release()


def works_in(file: Path) -> str:
    """What a person is told whom the lease in ``file`` keeps out."""
    return f"{owner(file)} works in {file.parent}: wait until it ends, or stop it first"


def is_part(path: Path) -> bool:
    """Whether a file in the folder of a run is its lease, or what is made and removed beside it."""
    return path.name.removeprefix(".").partition(".")[0] == NAME


def _note(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _acquire(lease: SoftFileLease, file: Path, patience: float, tell: Callable[[str], None]) -> None:
    first = _touched(file)
    began, told = time.monotonic(), False
    while True:
        try:
            lease.acquire(timeout=patience, poll_interval=POLL)
            return
        except Timeout:
            touched, waited = _touched(file), time.monotonic() - began
        if touched is None:
            continue
        if (touched != first and told) or _seconds_silent(file) < 2 * HEARTBEAT:
            raise Held(works_in(file))
        if not told:
            tell(f"{owner(file)} has not been heard of for a while: taken over in {SECONDS:.0f} s if it stays so")
            first, told = touched, True
        elif waited > SECONDS + HEARTBEAT:
            _break(file, touched)
        patience = min(HEARTBEAT, SECONDS / 4)


def _break(file: Path, judged: tuple[int, int]) -> None:
    """Remove a lease that was watched for long enough, where the file system cannot exchange two names in one step
    (NFS, SMB): filelock takes over on others alone.

    Of several processes one makes the file beside it; only then it looks whether the lease is still the one that was
    judged: what a third one has begun to hold in between is left alone.
    """
    claim = file.with_name(f"{file.name}.expired")
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise Held(
            f"another process is taking over {file.parent}; if that does not end, remove {claim} and {file}"
        ) from None
    try:
        if _touched(file) == judged:
            file.unlink(missing_ok=True)
    finally:
        claim.unlink(missing_ok=True)


def _touched(file: Path) -> tuple[int, int] | None:
    """What changes when a lease is touched or replaced; None where there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _seconds_silent(file: Path) -> float:
    """How long nobody has touched ``file``, by the clock of the file system: that of a server, not of this machine."""
    mark = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    mark.touch()
    try:
        return mark.stat().st_mtime - file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        mark.unlink(missing_ok=True)


def owner(file: Path) -> str:
    """Who holds the lease in ``file``, in words."""
    record = SoftFileLease(file).owner
    if record is None:
        return "another process"
    who = f"process {record.pid} on {_split_host(record.hostname)[0]}"
    try:
        note = json.loads(_note(file).read_text("utf-8"))
        return f"{who} (since {note['since']})" if note["pid"] == record.pid else who
    except (OSError, ValueError, KeyError):
        # it has begun this moment, or has come to its end
        return who


def is_held(file: Path) -> bool:
    """Whether a process holds the lease in ``file``, as far as can be seen without writing anything: of one that was
    killed on another machine it is said for :data:`SECONDS` more."""
    record, touched = SoftFileLease(file).owner, _touched(file)
    if record is None or touched is None or time.time() - touched[1] / 1e9 > SECONDS:
        return False
    return not (_split_host(record.hostname) == _here() and not psutil.pid_exists(record.pid))


def _split_host(recorded: str) -> tuple[str, int]:
    """Name of the machine and namespace of its processes, as filelock writes them."""
    name, _, namespace = recorded.partition("?pidns-")
    return name, int(namespace, 16) if namespace else _HOST_NAMESPACE


def _here() -> tuple[str, int]:
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = _HOST_NAMESPACE  # no Linux
    return socket.gethostname(), namespace
