"""Whether an experiment is meant for a user, by what the shop stores of them."""

from collections.abc import Mapping

from recsys.columns import ValueColumn, matches
from recsys.expression import Expression

_ONE = slice(0, 1)


def is_meant(targeting: Expression, attributes: Mapping[str, object]) -> bool:
    """The conditions of filters, asked of one user's attributes instead of an item's fields."""

    def column(field: str) -> ValueColumn:
        return ValueColumn([attributes.get(field)])

    return bool(matches(targeting.root, column, _ONE)[0])
