"""What an acceptable user is: a name, and attributes that are a JSON object."""

import polars as pl

from features.checks import id_rules, rule, split, text_column
from features.events import CheckedRows
from features.items import attribute_texts
from features.people import USER_SCHEMA


def check_users(frame: pl.DataFrame) -> CheckedRows:
    """Split into rows of USER_SCHEMA and rejected rows; nulls among attributes are dropped."""
    user_id, wrong = text_column(frame, "user_id")
    prepared = frame.with_columns(user_id, *attribute_texts(frame, priced=False))
    problem = pl.col("attributes_problem")
    rules = [*wrong, *id_rules("user_id", required=True), rule(problem.is_not_null(), problem)]
    return split(prepared, rules, USER_SCHEMA)
