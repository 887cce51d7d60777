"""Log lines as `key=value`, each with the request it belongs to."""

import logging
from contextvars import ContextVar

import orjson

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/%+@")
_FORMAT = "time=%(asctime)s level=%(levelname)s room=%(name)s request_id=%(request_id)s %(message)s"


def line(event: str, **fields: object) -> str:
    """`event=… key=value …`; whatever is not plain is quoted as JSON, so a line stays a line."""
    return " ".join(
        [f"event={event}", *(f"{key}={_value(value)}" for key, value in fields.items())]
    )


def _value(value: object) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    if text and _PLAIN.issuperset(text):
        return text
    return orjson.dumps(text.encode("utf-8", "replace").decode("utf-8")).decode()


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current_request_id.get()
        return True


def configure(level: str) -> None:
    """Send every log line to stderr in the one format; called by the entry point only."""
    stderr = logging.StreamHandler()
    stderr.addFilter(_RequestId())
    stderr.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[stderr], force=True)
