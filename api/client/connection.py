"""One HTTP connection to the server: retries what may be sent again, turns errors into one type."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from api.answers import ErrorAnswer

A = TypeVar("A", bound=BaseModel)

RETRY_STATUS = (429, 503)
MAX_WAIT_S = 30.0  # however long the server asks for
FIRST_WAIT_S = 0.25  # without an answer that says how long; doubled each time

NDJSON = "application/x-ndjson"


class RecommenderError(Exception):
    """Whatever kept a call from its answer; `code` never changes its meaning.

    Beside the server's codes there are `unreachable`, `unreadable_answer`, and those of `Events`.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        details: object = None,
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" ({request_id})" if request_id else ""))
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.details = details


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `again` says that the server may get it twice without harm."""

    method: str
    path: str
    json: object = None
    params: Mapping[str, str] | None = None
    content: Iterator[bytes] | None = None
    again: bool = True


class Connection:
    """Thread-safe; waits and tries again up to `max_retries` times."""

    def __init__(
        self, base_url: str, *, key: str | None, timeout_s: float, max_retries: int
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s)
        self._max_retries = max_retries

    def close(self) -> None:
        self._http.close()

    def ask(self, answer: type[A], call: Call) -> A:
        return read(answer, self.send(call))

    def send(self, call: Call) -> httpx.Response:
        """A success; RecommenderError for anything else, after the last try."""
        for n_tries in range(self._max_retries + 1):
            try:
                response = self._once(call)
            except httpx.TransportError as error:
                failure = RecommenderError("unreachable", f"{type(error).__name__}: {error}")
                may_repeat = call.again or isinstance(error, httpx.ConnectError)
            else:
                if response.is_success:
                    return response
                failure = error_of(response)
                may_repeat = response.status_code in RETRY_STATUS  # nothing of it was kept
            if call.content is not None or not may_repeat or n_tries == self._max_retries:
                raise failure
            time.sleep(_wait_s(failure, n_tries))
        raise AssertionError("the last try returns or raises")

    def _once(self, call: Call) -> httpx.Response:
        body: dict[str, Any] = {}
        if call.content is not None:
            body = {"content": call.content, "headers": {"Content-Type": NDJSON}}
        elif call.json is not None:
            body = {"json": call.json}
        return self._http.request(call.method, call.path, params=call.params, **body)

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[str]]:
        """An answer of any length, a line at a time; RecommenderError if it is not whole."""
        try:
            with self._http.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response.iter_lines()
        except httpx.TransportError as error:
            raise RecommenderError("unreachable", f"{type(error).__name__}: {error}") from error


def read(answer: type[A], response: httpx.Response) -> A:
    """Fields that a newer server adds are passed over."""
    try:
        return answer.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise RecommenderError(
            "unreadable_answer",
            f"found {error.error_count()} problems in the answer to {response.request.url.path}, "
            f"expected {answer.__name__}; is it the server this client belongs to?",
            status=response.status_code,
            request_id=response.headers.get("X-Request-ID"),
        ) from error


def error_of(response: httpx.Response) -> RecommenderError:
    after = response.headers.get("Retry-After", "")
    retry_after_s = float(after) if after.isdigit() else None
    try:
        found = ErrorAnswer.model_validate_json(response.content, extra="ignore")
    except ValidationError:  # a proxy's page
        return RecommenderError(
            "unreadable_answer",
            f"status {response.status_code}: {response.text[:200]!r}",
            status=response.status_code,
            retry_after_s=retry_after_s,
        )
    return RecommenderError(
        found.error.code,
        found.error.message,
        status=response.status_code,
        request_id=found.request_id,
        retry_after_s=retry_after_s,
        details=found.error.details,
    )


def _wait_s(failure: RecommenderError, n_tries: int) -> float:
    wait_s = failure.retry_after_s
    return min(FIRST_WAIT_S * 2**n_tries if wait_s is None else wait_s, MAX_WAIT_S)


def in_path(text: str) -> str:
    """An id as part of a path, whatever it is; `.` and `..` would be taken for folders."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def given(**values: object) -> dict[str, object]:
    """Without what was left out."""
    return {name: value for name, value in values.items() if value is not None}
