"""Placements and rules through the client."""

from collections.abc import Mapping

from api.answers import (
    Deleted,
    PlacementAnswer,
    PlacementsAnswer,
    PlacementWritten,
    PreviewAnswer,
    RuleAnswer,
    RulesAnswer,
    RuleWritten,
)
from api.client.connection import Call, Connection, given, in_path

Body = Mapping[str, object]


class Placements:
    """The named places of the storefront."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> PlacementsAnswer:
        return self._connection.ask(PlacementsAnswer, Call("GET", "/v1/placements"))

    def get(self, name: str) -> PlacementAnswer:
        return self._connection.ask(PlacementAnswer, Call("GET", _placement(name)))

    def put(self, name: str, body: Body) -> PlacementWritten:
        return self._connection.ask(PlacementWritten, Call("PUT", _placement(name), json=body))

    def delete(self, name: str) -> Deleted:
        return self._connection.ask(Deleted, Call("DELETE", _placement(name), again=False))


class Rules:
    """What people decide about slates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> RulesAnswer:
        return self._connection.ask(RulesAnswer, Call("GET", "/v1/rules"))

    def get(self, rule_id: str) -> RuleAnswer:
        return self._connection.ask(RuleAnswer, Call("GET", _rule(rule_id)))

    def put(self, rule_id: str, body: Body) -> RuleWritten:
        return self._connection.ask(RuleWritten, Call("PUT", _rule(rule_id), json=body))

    def delete(self, rule_id: str) -> Deleted:
        return self._connection.ask(Deleted, Call("DELETE", _rule(rule_id), again=False))

    def preview(self, rule: Body, ask: Body, *, at: str | None = None) -> PreviewAnswer:
        """The request with and without the rule; `at` is ISO-8601 with a zone."""
        body = given(rule=rule, ask=ask, at=at)
        return self._connection.ask(PreviewAnswer, Call("POST", "/v1/rules/preview", json=body))


def _placement(name: str) -> str:
    return f"/v1/placements/{in_path(name)}"


def _rule(rule_id: str) -> str:
    return f"/v1/rules/{in_path(rule_id)}"
