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
from api.errors import CODES
from api.examples import example
from api.keys import MAX_BODY, SCOPE
from api.scopes import PUBLIC, SCOPES, Scope

BEARER, QUERY_KEY = "key", "browser_key"
_SECURITY_SCHEMES = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "`python -m jobs keys create` makes one; without any key, nobody needs one",
    },
    QUERY_KEY: {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "browser keys only: navigator.sendBeacon cannot set headers",
    },
}
_SCHEMA_PATH = "#/components/schemas/{model}"


def documented(
    answer: type[BaseModel],
    *errors: int,
    takes: type[BaseModel] | None = None,
    scope: Scope | None = None,
    max_body_bytes: int | None = None,
) -> dict[str, Any]:
    """Keyword arguments for a ScopedRoute: its body, its answer, its errors, who may call it.

    `max_body_bytes` replaces what the caller's key allows. A route without a scope lets nobody in.
    """
    kept_out = () if scope == PUBLIC else (401, 403, 429, 503)
    body_errors = (408, 413, 415, 422) if takes else ()
    responses: dict[int, dict[str, Any]] = {200: {"model": answer, "description": "success"}}
    for status in sorted({400, 431, 500, *errors, *kept_out, *body_errors}):
        responses[status] = _error(status)
    extra: dict[str, Any] = {SCOPE: scope, "security": _security(scope)}
    if takes:
        extra["requestBody"] = _body(takes)
    if max_body_bytes is not None:
        extra[MAX_BODY] = max_body_bytes
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def _security(scope: Scope | None) -> list[dict[str, list[str]]]:
    """Either of them will do; an empty list is for everybody."""
    if scope == PUBLIC:
        return []
    header: list[dict[str, list[str]]] = [{BEARER: []}]
    return [*header, {QUERY_KEY: []}] if scope in SCOPES["browser"] else header


def _error(status: int) -> dict[str, Any]:
    """One example for each code that comes with the status."""
    named = {code: meaning for code, (of, meaning) in CODES.items() if of == status}
    examples = {
        code: {
            "value": {
                "error": {"code": code, "message": meaning, "details": None},
                "request_id": "019ab3f0c2d1" + 20 * "0",
            }
        }
        for code, meaning in named.items()
    }
    return {
        "model": ErrorAnswer,
        "description": "; or ".join(named.values()),
        "content": {"application/json": {"examples": examples}},
    }


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_SCHEMA_PATH)
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document; the bodies' shared parts move to where their references point."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas.update(content["schema"].pop("$defs", {}))
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    _show(response["content"])
    return document


def _show(contents: dict[str, Any]) -> None:
    """An example beside each schema; the JSON that FastAPI adds to answers of lines goes."""
    if len(contents) > 1 and contents.get("application/json") == {"schema": {}}:
        del contents["application/json"]
    found = contents.get("application/json")
    if found is not None:
        found["example"] = example(found["schema"]["$ref"].removeprefix(_SCHEMA_PATH[:-7]))
