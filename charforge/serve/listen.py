"""An address to listen at, and the server that listens there."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from charforge.errors import InputError, MachineError
from charforge.serve.app import create_app
from charforge.serve.engine import Engine
from charforge.serve.guard import Access
from charforge.serve.protocol import protocol_within

BACKLOG = 2048
GRACE = 5
"""Seconds that replies under way have when the server ends."""


def access_of(host: str, key_variable: str | None, origins: Sequence[str]) -> Access:
    """Who may ask a server at ``host``. Raises InputError for a key that is not there, and for listening to others than
    this machine without one."""
    key = key_in(key_variable, "--api-key-env")
    if key is not None and not key.isascii():
        raise InputError("--api-key-env: a key has letters, digits and signs of ASCII alone")
    _check_host(host)
    here = _is_loopback(host)
    if not here and key is None:
        raise InputError(
            f"--host {host} lets other machines in: choose a key, put it into an environment variable, and name that "
            "with --api-key-env"
        )
    return Access(key, tuple(_origin(origin) for origin in origins), only_here=here)


def _check_host(host: str) -> None:
    try:
        if not host.strip():
            raise OSError
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host {host!r} is no address of this machine: leave it out, or give 0.0.0.0 to listen at all of them; "
            "the port has an option of its own"
        ) from error


def _origin(page: str) -> str:
    """The origin of a page's address, as browsers send it."""
    parts = urlsplit(page)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"--allow-origin {page}: give the address of a page, e.g. http://localhost:3000")
    return f"{parts.scheme}://{parts.netloc}".lower()


def key_in(variable: str | None, option: str) -> str | None:
    """The key in an environment variable. Raises InputError for a variable that is empty."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"{option} {variable}: this variable is not set, or empty; set it to the key")
    return key


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def open_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the address, closed at the end. Raises MachineError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        # at once: another server must not take the same address while this one loads
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise MachineError(
            f"{host} port {port} cannot be listened at ({error.strerror or error}): another program may use it, choose "
            "another with --port"
        ) from error
    with bound:
        yield bound


def listen(engine: Engine, access: Access, bound: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM. Requests are not written into any log."""
    config = uvicorn.Config(
        create_app(engine, access), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE, h11_max_incomplete_event_size=64 << 10,
        http=protocol_within(access.body_seconds),
    )  # fmt: skip
    _Server(config, engine).run(sockets=[bound])


class _Server(uvicorn.Server):
    """A server whose orders end as soon as it is asked to end: those who wait hear why."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._engine.stop()
        super().handle_exit(sig, frame)
