"""Every answer that is not a success has the same shape, and its code never changes."""

import logging
import sqlite3
from collections.abc import Sequence

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.logs import line
from features.errors import ConfigError, DataError, NotReady, RecsysError, ReleaseError

log = logging.getLogger(__name__)

STORE_ERRORS = (SQLAlchemyError, sqlite3.Error)
RETRY_AFTER_S = 1  # a first release is seconds away; a busy store is free again sooner
MAX_DETAILS = 20  # as many problems as a person mends at once

STATUS_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "too_many_requests",
    500: "internal_error",
    503: "not_ready",
}


class ApiError(Exception):
    """An answer other than success, on purpose."""

    def __init__(
        self, status: int, message: str, *, code: str = "", details: object = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or STATUS_CODES[status]
        self.message = message
        self.details = details


def envelope(request_id: str, error: ApiError) -> Response:
    content = {
        "error": {"code": error.code, "message": error.message, "details": error.details},
        "request_id": request_id,
    }
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status in (429, 503) else None
    return Response(orjson.dumps(content), error.status, headers, "application/json")


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
            return ApiError(status, str(error.detail))
        case DataError():
            return ApiError(422, str(error))
        case NotReady() | ReleaseError():
            return ApiError(503, str(error))
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
    if answer.status >= 500 and not isinstance(error, ApiError | NotReady):
        log.error(line("request_failed", code=answer.code, cause=repr(error)))
    return envelope(request.state.request_id, answer)
