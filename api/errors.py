"""Every answer that is not a success has the same shape, and its code never changes."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from api.logs import line
from features.engines import STORE_ERRORS as STORE_ERRORS
from features.errors import ConfigError, Contended, DataError, NotReady, RecsysError, ReleaseError

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1  # a first release is seconds away; a busy store is free again sooner
MAX_DETAILS = 20  # as many problems as a person mends at once

# What a caller may find in `error.code`, with the status it comes with and when. Codes are never
# renamed: programs decide by them.
CODES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "the path or a header cannot be used"),
    "unauthorised": (401, "no key, or one that is unknown, expired or revoked"),
    "forbidden": (403, "the key does not allow this, or not from this page's origin"),
    "not_found": (404, "no such path, or nothing under this id"),
    "page_expired": (404, "the slate to continue is unknown or too old; ask for a new one"),
    "method_not_allowed": (405, "the path has no such method; Allow names those it has"),
    "request_timeout": (408, "the body came too slowly; the connection is closed"),
    "payload_too_large": (413, "the body is larger than the key or the endpoint allows"),
    "unsupported_media_type": (415, "the body is not sent as the type this endpoint takes"),
    "invalid_request": (422, "not what this endpoint takes; `details` names each field"),
    "unknown_placement": (422, "no placement has this name; GET /v1/placements lists them"),
    "rate_limited": (429, "the key's rate is used up; try again after Retry-After seconds"),
    "too_many_requests": (429, "too much waits to be written; try again after Retry-After seconds"),
    "headers_too_large": (431, "the request's headers are larger than any this server needs"),
    "internal_error": (500, "the server failed; its log has the cause under this request_id"),
    "not_ready": (503, "no release is loaded yet; try again after Retry-After seconds"),
    "store_unavailable": (503, "the store cannot be used; try again after Retry-After seconds"),
}
STATUS_CODES: dict[int, str] = {}  # what an error of this status is called unless it says more
for _code, (_status, _) in CODES.items():
    STATUS_CODES.setdefault(_status, _code)


class ApiError(Exception):
    """An answer other than success, on purpose."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        details: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or STATUS_CODES[status]
        self.message = message
        self.details = details
        self.headers = {**_usual_headers(status), **(headers or {})}


def _usual_headers(status: int) -> dict[str, str]:
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    if status == 408:
        return {"Connection": "close"}
    return {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}


def envelope(request_id: str, error: ApiError) -> Response:
    content = {
        "error": {"code": error.code, "message": error.message, "details": error.details},
        "request_id": request_id,
    }
    return Response(orjson.dumps(content), error.status, error.headers, "application/json")


def invalid(error: ValidationError | RequestValidationError) -> ApiError:
    """A 422 that names each field and what is wrong with it."""
    problems = [
        {"field": ".".join(map(str, e["loc"])) or "body", "problem": problem(e["msg"])}
        for e in error.errors()[:MAX_DETAILS]
    ]
    first = problems[0]
    return ApiError(422, f"{first['field']}: {first['problem']}", details=problems)


def problem(message: str) -> str:
    """What pydantic found, without its prefix for our own messages."""
    return message.removeprefix("Value error, ")


def as_api_error(error: Exception) -> ApiError:
    """The one mapping from what went wrong to what the storefront is told."""
    match error:
        case ApiError():
            return error
        case ValidationError() | RequestValidationError():
            return invalid(error)
        case HTTPException():
            status = error.status_code if error.status_code in STATUS_CODES else 400
            return ApiError(status, str(error.detail), headers=error.headers)
        case DataError():
            return ApiError(422, str(error))
        case NotReady() | ReleaseError():
            return ApiError(503, str(error))
        case Contended():
            return ApiError(503, str(error), code="store_unavailable")
        case ConfigError() | RecsysError():
            return ApiError(500, str(error))
        case _ if isinstance(error, STORE_ERRORS):
            return ApiError(
                503,
                "The store could not be read or written; nothing of this request was kept. "
                "Send it again; the server's log names the cause.",
                code="store_unavailable",
            )
    return ApiError(500, "The server failed on this request; its log says why.")


EXPECTED: Sequence[type[Exception]] = (
    ApiError,
    ValidationError,
    RequestValidationError,
    HTTPException,
    RecsysError,
    *STORE_ERRORS,
)


def install(app: FastAPI) -> None:
    for kind in EXPECTED:
        app.add_exception_handler(kind, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    answer = as_api_error(error)
    if answer.status == 404 and isinstance(error, HTTPException):
        answer = ApiError(404, "There is no such path. GET /openapi.json has all there are.")
    if answer.status == 405:
        answer = _with_every_method(request, answer)
    if answer.status >= 500 and not isinstance(error, ApiError | NotReady):
        log.error(line("request_failed", code=answer.code, cause=repr(error)))
    return envelope(request.state.request_id, answer)


def _with_every_method(request: Request, answer: ApiError) -> ApiError:
    """The framework names the methods of the first route that has the path, not of all."""
    methods: set[str] = set()
    for route in each_route(request.app.routes):
        probe = {**request.scope, "method": next(iter(route.methods or ()), "GET")}
        if route.matches(probe)[0] is Match.FULL:
            methods |= route.methods or set()
    allow = ", ".join(sorted(methods))
    return ApiError(
        405, f"{request.method} is not answered here; {allow} is.", headers={"Allow": allow}
    )


def each_route(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """What answers requests, also within included routers."""
    for route in routes:
        if isinstance(route, Route):
            yield route
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from each_route(included.routes)
