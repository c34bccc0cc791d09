"""Who may ask, and how much: before any route sees a request."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import secrets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charforge.serve.answers import error

SECONDS_FOR_A_BODY = 60.0
TOO_LARGE = "the request is larger than {} MB: send fewer or smaller pictures"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
OPEN_PATHS = ("/health", "/", "/favicon.ico")
OPEN_FOLDERS = ("/page/",)
"""What needs no key: whether the server is there, and the page, which asks for the key."""


@dataclass(frozen=True)
class Access:
    """``key``: what must be shown, if anything. ``origins``: web pages from elsewhere that may ask.

    ``only_here``: only names of this machine are taken for its address, as long as it listens to nobody else.
    """

    key: str | None = None
    origins: tuple[str, ...] = ()
    only_here: bool = True
    most_bytes: int = 32 << 20
    body_seconds: float = SECONDS_FOR_A_BODY


class Guard:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = refused(scope["method"], scope["path"], Headers(scope=scope), self._access)
        app: ASGIApp = self._app if refusal is None else refusal
        await app(scope, _limited(receive, self._access.most_bytes, self._access.body_seconds), _with_headers(send))


def refused(method: str, path: str, headers: Headers, access: Access) -> JSONResponse | None:
    """The refusal of a request, or None.

    A page that somebody has open in a browser can send requests to this machine: whoever comes from such a page
    (``Origin``), or calls this machine by a foreign name (``Host``, as after DNS rebinding), is refused.
    """
    host = headers.get("host", "")
    if access.only_here and not is_here(host):
        return _answer(403, f"this server answers at addresses of this machine alone, not at {host[:100]!r}")
    origin = headers.get("origin")
    if origin and origin not in access.origins and origin.partition("://")[2] != host:
        return _answer(
            403, f"pages of {origin[:100]!r} may not ask: start the server with --allow-origin {origin[:100]}"
        )
    if method == "OPTIONS" or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
        return None
    if access.key is not None and not secrets.compare_digest(_shown_key(headers).encode(), access.key.encode()):
        answer = _answer(401, "this server needs its key: send the header `Authorization: Bearer KEY`")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > access.most_bytes:
        return _answer(413, TOO_LARGE.format(access.most_bytes >> 20))
    return None


def is_here(host: str) -> bool:
    """Whether a ``Host`` header names this machine: localhost, or an address of the loopback interface."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        # no address at all: "["
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _shown_key(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        # how front ends send what is entered as user:password for AUTOMATIC1111's web UI: the password is the key
        try:
            return base64.b64decode(key.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return key.strip() if kind.lower() == "bearer" else ""


def _answer(status: int, message: str) -> JSONResponse:
    kind = "authentication_error" if status == 401 else "permission_error" if status == 403 else "invalid_request_error"
    return JSONResponse(error(message, kind, "invalid_api_key" if status == 401 else None), status)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent


def _limited(receive: Receive, most: int, seconds: float) -> Receive:
    """``receive`` that refuses the rest of a body that is too long, or does not come in time."""
    seen, whole = 0, False
    end = time.monotonic() + seconds

    async def limited() -> Message:
        nonlocal seen, whole
        if whole:
            # what comes now is that the client goes
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the rest of the request did not come within {seconds:g} seconds") from error
        whole = not message.get("more_body", False)
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, TOO_LARGE.format(most >> 20))
        return message

    return limited
