"""An address to listen at, and the server that listens there."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from charforge.errors import InputError, MachineError
from charforge.serve.app import create_app
from charforge.serve.engine import Engine
from charforge.serve.guard import Access

GRACE = 5
"""Seconds that replies under way have when the server ends."""


def access_of(host: str, key_variable: str | None, origins: Sequence[str]) -> Access:
    """Who may ask a server at ``host``. Raises InputError for a key that is not there, and for listening to others than
    this machine without one."""
    key = key_in(key_variable, "--api-key-env")
    here = _is_loopback(host)
    if not here and key is None:
        raise InputError(
            f"--host {host} lets other machines in: choose a key, put it into an environment variable, and name that "
            "with --api-key-env"
        )
    return Access(key, tuple(origins), only_here=here)


def key_in(variable: str | None, option: str) -> str | None:
    """The key in an environment variable. Raises InputError for a variable that is empty."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"{option} {variable}: this variable is empty; set it to the key")
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
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[bound])
