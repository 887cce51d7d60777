"""How schemathesis sends the one kind of body that it does not know."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: object, value: Any) -> bytes:
    """Text as it is; of anything else a line for each row."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    rows = value if isinstance(value, list) else [value]
    return "\n".join(map(json.dumps, rows)).encode()
