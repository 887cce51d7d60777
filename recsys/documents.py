"""Documents as people stored them; what another version of this code wrote may be unreadable."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

D = TypeVar("D", bound=BaseModel)


def readable(
    bodies: Mapping[str, str], model: type[D]
) -> tuple[dict[str, D], dict[str, ValidationError]]:
    """From JSON texts by name: what the model takes, and what is wrong with each of the rest."""
    found: dict[str, D] = {}
    wrong: dict[str, ValidationError] = {}
    for name in sorted(bodies):
        try:
            found[name] = model.model_validate_json(bodies[name])
        except ValidationError as error:
            wrong[name] = error
    return found, wrong
