"""OpenAPI for endpoints that read and write JSON themselves.

FastAPI derives the description from a function's parameters and validates through them, which
costs 27 µs a request more than parsing the bytes with pydantic; the endpoints here do the latter
and say by `documented` what they take, answer and refuse.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from api.answers import ErrorAnswer
from api.errors import STATUS_CODES

_SCHEMA_PATH = "#/components/schemas/{model}"

_MEANINGS = {
    400: "the path or a header cannot be used",
    404: "no such item",
    413: "the body is larger than the limit",
    415: "the body is not sent as application/json",
    422: "not what this endpoint takes; `details` names each field",
    429: "too much is waiting to be written; try again after Retry-After seconds",
    500: "the server failed; its log has the cause under this request_id",
    503: "no release is loaded yet, or the store cannot be used; try again after Retry-After",
}


def documented(
    answer: type[BaseModel], *errors: int, takes: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Keyword arguments for a FastAPI route: its body, its answer, its errors."""
    body_errors = (413, 415, 422) if takes else ()
    responses: dict[int, dict[str, Any]] = {200: {"model": answer, "description": "success"}}
    for status in sorted({400, 500, *errors, *body_errors}):
        responses[status] = _error(status)
    extra = {"requestBody": _body(takes)} if takes else {}
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def _error(status: int) -> dict[str, Any]:
    example = {
        "error": {"code": STATUS_CODES[status], "message": _MEANINGS[status], "details": None},
        "request_id": "019ab3f0c2d1" + 20 * "0",
    }
    return {
        "model": ErrorAnswer,
        "description": _MEANINGS[status],
        "content": {"application/json": {"example": example}},
    }


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_SCHEMA_PATH)
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document; the bodies' shared parts move to where their references point."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas.update(content["schema"].pop("$defs", {}))
    return document
