"""Connections whose request never begins: uvicorn waits for the head of a request for ever."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def heads_within(seconds: float) -> type[H11Protocol]:
    """uvicorn's own protocol, which ends a connection where the head of a request is not whole after ``seconds``: of
    the first one counted from its opening, of later ones from the first piece that came."""

    class HeadsWithin(H11Protocol):
        due: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.due = self.loop.call_later(seconds, self.transport.close)

        def data_received(self, data: bytes) -> None:
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

    return HeadsWithin
