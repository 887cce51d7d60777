"""Log lines as `key=value` or as JSON, each with the request it belongs to."""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

LogFormat: TypeAlias = Literal["text", "json"]

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
current_trace_id: ContextVar[str | None] = ContextVar("current_trace_id", default=None)

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/%+@")


@dataclass(frozen=True, slots=True)
class Line:
    """`event=… key=value …`; whatever is not plain is quoted as JSON, so a line stays a line."""

    event: str
    fields: Mapping[str, object]

    def __str__(self) -> str:
        pairs = (f"{key}={_value(value)}" for key, value in self.fields.items())
        return " ".join([f"event={self.event}", *pairs])


def line(event: str, **fields: object) -> Line:
    """What to hand to a logger; written out only if the logger wants it."""
    return Line(event, fields)


def _value(value: object) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    if text and _PLAIN.issuperset(text):
        return text
    return orjson.dumps(_clean(text)).decode()


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("time=%(asctime)s level=%(levelname)s room=%(name)s %(ids)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.ids = " ".join(f"{name}={_value(value)}" for name, value in _ids().items())
        return super().format(record)


class _Json(logging.Formatter):
    """One object a line; a field keeps its type where JSON has it."""

    def format(self, record: logging.LogRecord) -> str:
        head = {"time": self.formatTime(record), "level": record.levelname, "room": record.name}
        if isinstance(record.msg, Line):
            told = {"event": record.msg.event, **record.msg.fields}
        else:
            told = {"message": record.getMessage()}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        whole = {name: _jsonable(value) for name, value in (head | _ids() | told).items()}
        return orjson.dumps(whole).decode()


def _jsonable(value: object) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else str(value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _jsonable(inner) for key, inner in value.items()}
    return _clean(str(value))


def _ids() -> dict[str, object]:
    trace_id = current_trace_id.get()
    ids: dict[str, object] = {"request_id": current_request_id.get()}
    return ids if trace_id is None else {**ids, "trace_id": trace_id}


def configure(level: str, log_format: LogFormat = "text") -> None:
    """Send every log line to stderr in one format; called by the entry point only."""
    stderr = logging.StreamHandler()
    stderr.setFormatter(_Json() if log_format == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[stderr], force=True)
