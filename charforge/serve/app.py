"""The server as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from charforge import __version__
from charforge.serve import chat_routes, image_routes, sd_routes
from charforge.serve.engine import Engine
from charforge.serve.failures import add_handlers
from charforge.serve.guard import Access, Guard
from charforge.serve.metrics import Counted, Metrics
from charforge.serve.studio import Studio

PAGE = Path(__file__).parent / "page"


FRESH = {"Cache-Control": "no-cache"}
"""Asked for anew each time: after an upgrade a browser must not mix old and new modules."""


class FreshFiles(StaticFiles):
    """Files with :data:`FRESH`."""

    def file_response(self, *args: Any, **values: Any) -> Response:
        response = super().file_response(*args, **values)
        response.headers.update(FRESH)
        return response


def create_app(engine: Engine, access: Access) -> FastAPI:
    """Routes in front of ``engine``, which is closed when the server ends."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(
        title="charforge", version=__version__, lifespan=life, docs_url=None, redoc_url=None,
        summary="Characters that speak and draw, for programs that speak OpenAI's or AUTOMATIC1111's interface",
    )  # fmt: skip
    metrics = Metrics(engine)
    app.state.engine, app.state.studio = engine, Studio(next(iter(engine.voices)))
    add_handlers(app)

    @app.api_route("/health", methods=["GET", "HEAD"], tags=["server"])
    async def health() -> dict[str, str]:
        """Whether the server is ready."""
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/characters/{voice}/avatar.png", tags=["server"], response_class=Response)
    async def avatar(voice: str) -> Response:
        """The picture of a character."""
        found = engine.voices.get(voice)
        if found is None or found.avatar is None:
            raise HTTPException(404, "there is no such picture")
        return Response(found.avatar, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    for routes in (chat_routes, image_routes, sd_routes):
        app.include_router(routes.router)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers=FRESH)

    app.mount("/page", FreshFiles(directory=PAGE), name="page")
    app.add_middleware(Guard, access=access)
    if access.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(access.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(Counted, metrics=metrics)
    return app
