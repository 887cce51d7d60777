"""Users between their JSON and the store's columns."""

import json
from collections.abc import Mapping, Sequence

import orjson
import polars as pl

from api.bodies_told import UserBody, UserPatch
from api.item_rows import merged
from features.errors import DataError
from features.events import CheckedRows
from features.users import check_users


def checked(user_ids: Sequence[str], bodies: Sequence[UserBody]) -> CheckedRows:
    """USER_SCHEMA rows of what is acceptable; `row` of the rejected ones counts from 0."""
    # not orjson, which writes no integer beyond 64 bits
    attributes = [json.dumps(body.attributes) for body in bodies]
    columns = {"user_id": user_ids, "attributes": attributes}
    return check_users(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)))


def one_checked(user_id: str, body: UserBody) -> pl.DataFrame:
    """One row of USER_SCHEMA; DataError with the reason if it is not acceptable."""
    rows = checked([user_id], [body])
    if len(rows.rejected):
        raise DataError(rows.rejected["reason"][0])
    return rows.accepted


def patched(stored: Mapping[str, object], patch: UserPatch) -> pl.DataFrame:
    """The stored row of `People.user` after a merge patch."""
    attributes = json.loads(str(stored["attributes"]))
    if "attributes" in patch.model_fields_set:
        attributes = merged(attributes, patch.attributes)
    body = UserBody.model_construct(attributes=attributes)
    return one_checked(str(stored["user_id"]), body)


def described(users: pl.DataFrame) -> list[dict[str, object]]:
    """Rows of USER_SCHEMA as the storefront reads them, and could send them again."""
    return [row | {"attributes": orjson.Fragment(row["attributes"])} for row in users.to_dicts()]
