"""What goes wrong, in the shape of OpenAI's interface, with the status that clients act on."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from charforge.errors import CharforgeError
from charforge.serve.answers import Json, error
from charforge.serve.engine import Busy, TooLate, Unavailable
from charforge.serve.refusals import in_words
from charforge.serve.voices import NoSuchModel

LOG = logging.getLogger("charforge.serve")
NOBODY_LISTENS = 499
"""The status that nginx gives to a request whose client has gone."""
KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


ELSEWHERE = "what this server answers is listed at /openapi.json"
UNTOLD = {
    "Not Found": f"there is nothing at this address: {ELSEWHERE}",
    "Method Not Allowed": f"this address does not answer this method: {ELSEWHERE}",
    "There was an error parsing the body": "the body cannot be read as JSON: send UTF-8 that is not nested too deeply",
}
"""What the framework says, and what somebody can act on."""


def error_of(problem: CharforgeError) -> tuple[int, Json]:
    """Status and body."""
    message = str(problem)
    if isinstance(problem, Busy):
        return 429, error(message, "rate_limit_error", "queue_full")
    if isinstance(problem, TooLate):
        return 504, error(message, "timeout_error", "timeout")
    if isinstance(problem, Unavailable):
        return 503, error(message, "server_error", "unavailable")
    if isinstance(problem, NoSuchModel):
        return 404, error(message, "invalid_request_error", "model_not_found", "model")
    param = message.partition(":")[0]
    return 400, error(message, "invalid_request_error", None, param if param.isidentifier() else None)


def add_handlers(app: FastAPI) -> None:
    """Have ``app`` answer every error in that shape."""

    @app.exception_handler(CharforgeError)
    async def refused(request: Request, problem: CharforgeError) -> Response:
        status, body = error_of(problem)
        headers = {"Retry-After": str(problem.seconds)} if isinstance(problem, Busy) else None
        return JSONResponse(body, status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, problem: RequestValidationError) -> Response:
        return JSONResponse(error(*_malformed(problem.errors())), 400)

    @app.exception_handler(HTTPException)
    async def by_status(request: Request, problem: HTTPException) -> Response:
        kind = KINDS.get(problem.status_code, "invalid_request_error")
        told = UNTOLD.get(str(problem.detail), str(problem.detail))
        return JSONResponse(error(told, kind), problem.status_code, problem.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, problem: ClientDisconnect) -> Response:
        return Response(status_code=NOBODY_LISTENS)

    @app.exception_handler(Exception)
    async def failed(request: Request, problem: Exception) -> Response:
        LOG.error("a request failed", exc_info=problem)
        return JSONResponse(error("the server failed: its log says more", "server_error"), 500)


def _malformed(problems: Any) -> tuple[str, str, None, str | None]:
    """The first thing wrong with a body: message, kind, code and the field."""
    first = problems[0]
    if first["type"] == "json_invalid":
        where = f"at byte {first['loc'][-1]}: {first.get('ctx', {}).get('error', 'no JSON')}"
        told = f"the body of the request is no JSON ({where}): send one JSON object, in UTF-8"
        return told, "invalid_request_error", None, None
    if first["loc"] == ("body",):
        told = "the body of the request is no JSON object: send one, with the header Content-Type: application/json"
        return told, "invalid_request_error", None, None
    said, place = in_words(problems)
    return said[:500], "invalid_request_error", None, place
