"""Figures of the server in the form that Prometheus reads. None of them says what was talked about."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charforge.serve.engine import Engine

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts requests by route and status, and the seconds to their first byte and to their end."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        names = ["route", "status"]
        self.requests = Counter("charforge_requests", "Requests", names, registry=self._registry)
        self.first = Histogram(
            "charforge_first_byte_seconds", "From a request to the first byte of its body", ["route"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self.whole = Histogram(
            "charforge_request_seconds",
            "From a request to its end",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_EngineFigures(engine))

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)


class _EngineFigures(Collector):
    """What the engine counts itself, read when it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        """Gauges and counters."""
        figures = self._engine.figures()
        gauges = [
            GaugeMetricFamily("charforge_waiting", "Orders that have not begun", figures.waiting),
            GaugeMetricFamily("charforge_active", "Replies and pictures that are being made", figures.active),
        ]
        counters = [
            CounterMetricFamily("charforge_tokens", "Tokens that were said", figures.tokens),
            CounterMetricFamily("charforge_passes", "Passes of the model for words", figures.passes),
            CounterMetricFamily("charforge_pictures", "Pictures that were drawn", figures.pictures),
        ]
        return [*gauges, *counters]


class Counted:
    """An ASGI middleware that fills ``metrics``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, first = time.perf_counter(), 499, None

        async def counted(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status = message["status"]
            elif first is None:
                first = time.perf_counter() - begun
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            # the pattern of the route and not the path: a client must not make names
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.whole.labels(route).observe(time.perf_counter() - begun)
            if first is not None:
                self._metrics.first.labels(route).observe(first)
