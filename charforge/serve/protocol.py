"""The head of a request, before any route sees it: one that never ends, and one that is no HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from charforge.serve.answers import error

TLS_HANDSHAKE = b"\x16\x03"
NO_HTTP = "what came cannot be read as HTTP/1.1: send a request line, headers, and an empty line"
HEAD_TOO_LONG = "the address and the headers of the request are too long: send fewer of them"
REASONS = {
    "Missing mandatory Host": "the request has no Host header: HTTP/1.1 asks for one",
    "Found multiple Host": "the request has several Host headers: send one",
    "bad Content-Length": "the header Content-Length is no number of bytes: send the length of the body, or none",
    "conflicting Content-Length": "the request has several Content-Length headers that differ: send one",
    "Receive buffer too long": HEAD_TOO_LONG,
    "multiple Transfer-Encoding": "the request has several Transfer-Encoding headers: send one, or none",
    "Only Transfer-Encoding": "the only Transfer-Encoding that is read is chunked: send that, or a Content-Length",
    "illegal chunk": "a chunk of the body does not begin with its length: send the body with a Content-Length",
    "malformed chunk": "a chunk of the body does not end where its length says: send the body with a Content-Length",
    "illegal header": "a line among the headers is no header: write each as `Name: value`",
    "Illegal header": "a line among the headers is no header: write each as `Name: value`",
    "Illegal target": "the address has letters that none may have: write them as %XX",
}
"""What h11 finds wrong, by how it begins to say so, and what somebody can act on."""


def unreadable(problem: BaseException | None, begins: bytes) -> tuple[int, str]:
    """Status and sentence for a request that h11 cannot read; ``begins`` are the first bytes of the connection."""
    if begins.startswith(TLS_HANDSHAKE):
        return 400, "this server speaks HTTP without TLS: use an address that begins with http:// and not https://"
    status = getattr(problem, "error_status_hint", 400)
    return status, next((told for found, told in REASONS.items() if str(problem).startswith(found)), NO_HTTP)


def protocol_within(seconds: float) -> type[H11Protocol]:
    """uvicorn's own protocol, which ends a connection where the head of a request is not whole after ``seconds`` (of
    the first one counted from its opening, of later ones from the first piece that came), and which says as every
    other error of the server what is wrong with a request that is no HTTP."""

    class Protocol(H11Protocol):
        due: asyncio.TimerHandle | None = None
        begins = b""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.due = self.loop.call_later(seconds, self.transport.close)

        def data_received(self, data: bytes) -> None:
            if len(self.begins) < len(TLS_HANDSHAKE):
                self.begins += data[: len(TLS_HANDSHAKE)]
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self.no_longer_due()
            elif self.due is None:
                self.due = self.loop.call_later(seconds, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self.no_longer_due()
            super().connection_lost(exc)

        def no_longer_due(self) -> None:
            if self.due is not None:
                self.due.cancel()
                self.due = None

        def send_400_response(self, msg: str) -> None:
            # it is called where h11's error is being handled
            status, told = unreadable(sys.exception(), self.begins)
            # an answer that has begun cannot become another
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = json.dumps(error(told, "invalid_request_error")).encode()
                headers = [
                    ("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close"),
                ]  # fmt: skip
                reason = HTTPStatus(status).phrase.encode()
                for event in (
                    h11.Response(status_code=status, headers=headers, reason=reason), h11.Data(data=body),
                    h11.EndOfMessage(),
                ):  # fmt: skip
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol
