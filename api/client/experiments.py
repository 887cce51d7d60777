"""Experiments through the client."""

from collections.abc import Mapping

from api.answers import Deleted
from api.client.connection import Call, Connection, given, in_path
from api.experiment_answers import (
    ExperimentAnswer,
    ExperimentsAnswer,
    HoldoutAnswer,
    ReportAnswer,
    WouldGetAnswer,
)


class Experiments:
    """Which ranking is better: drafted, started, stopped and decided."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> ExperimentsAnswer:
        return self._connection.ask(ExperimentsAnswer, Call("GET", "/v1/experiments"))

    def get(self, name: str) -> ExperimentAnswer:
        return self._connection.ask(ExperimentAnswer, Call("GET", _path(name)))

    def put(self, name: str, design: Mapping[str, object]) -> ExperimentAnswer:
        """Draft it, or change it as far as it may change."""
        return self._connection.ask(ExperimentAnswer, Call("PUT", _path(name), json=design))

    def delete(self, name: str) -> Deleted:
        return self._connection.ask(Deleted, Call("DELETE", _path(name), again=False))

    def start(self, name: str, *, reason: str = "") -> ExperimentAnswer:
        return self._step(name, "start", reason=reason)

    def stop(self, name: str, *, reason: str = "") -> ExperimentAnswer:
        return self._step(name, "stop", reason=reason)

    def decide(self, name: str, variant: str, *, reason: str = "") -> ExperimentAnswer:
        return self._step(name, "decide", variant=variant, reason=reason)

    def assignment(self, name: str, unit_id: str, *, placement: str = "home") -> WouldGetAnswer:
        """What a unit would get; nothing counts as shown."""
        params = {"unit_id": unit_id, "placement": placement}
        call = Call("GET", f"{_path(name)}/assignment", params=params)
        return self._connection.ask(WouldGetAnswer, call)

    def report(self, name: str) -> ReportAnswer:
        """The last analysis."""
        return self._connection.ask(ReportAnswer, Call("GET", f"{_path(name)}/report"))

    def holdout(self) -> HoldoutAnswer:
        """The share of units that no experiment touches."""
        return self._connection.ask(HoldoutAnswer, Call("GET", "/v1/holdout"))

    def hold_out(self, share: float, *, salt: str | None = None) -> HoldoutAnswer:
        body = given(share=share, salt=salt)
        return self._connection.ask(HoldoutAnswer, Call("PUT", "/v1/holdout", json=body))

    def _step(self, name: str, step: str, **body: str) -> ExperimentAnswer:
        """Not sent again: the second time it would be refused."""
        call = Call("POST", f"{_path(name)}/{step}", json=body, again=False)
        return self._connection.ask(ExperimentAnswer, call)


def _path(name: str) -> str:
    return f"/v1/experiments/{in_path(name)}"
