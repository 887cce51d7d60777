"""Users through the client: attributes, login, export, erasure."""

from collections.abc import Iterable, Iterator, Mapping

from api.answers_told import (
    BulkAnswer,
    ErasureAnswer,
    SessionLinked,
    StoredUser,
    User,
    UserExport,
    UserPage,
    UserStored,
)
from api.client.catalogue import Attributes, as_lines
from api.client.connection import Call, Connection, given, in_path


class Users:
    """People and what is stored of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, user_id: str, attributes: Attributes) -> UserStored:
        call = Call("PUT", _path(user_id), json={"attributes": attributes})
        return self._connection.ask(UserStored, call)

    def patch(self, user_id: str, attributes: Attributes | None) -> UserStored:
        """What is named changes, None removes it."""
        call = Call("PATCH", _path(user_id), json={"attributes": attributes})
        return self._connection.ask(UserStored, call)

    def get(self, user_id: str) -> User:
        return self._connection.ask(User, Call("GET", _path(user_id)))

    def page(self, *, after: str | None = None, limit: int = 100) -> UserPage:
        params = {name: str(value) for name, value in given(after=after, limit=limit).items()}
        return self._connection.ask(UserPage, Call("GET", "/v1/users", params=params))

    def all(self, *, limit: int = 1_000) -> Iterator[StoredUser]:
        page = self.page(limit=limit)
        yield from page.users
        while page.next is not None:
            page = self.page(after=page.next, limit=limit)
            yield from page.users

    def upload(self, rows: Iterable[Mapping[str, object]]) -> BulkAnswer:
        """Rows of `user_id` and `attributes`, streamed; broken off, it may be sent again."""
        call = Call("POST", "/v1/bulk/users", content=as_lines(rows))
        return self._connection.ask(BulkAnswer, call)

    def download(self) -> Iterator[StoredUser]:
        with self._connection.lines("/v1/bulk/users") as lines:
            for line in lines:
                yield StoredUser.model_validate_json(line, extra="ignore")

    def export(self, user_id: str) -> UserExport:
        """Everything that is stored of the user."""
        path = f"/v1/exports/users/{in_path(user_id)}"
        return self._connection.ask(UserExport, Call("GET", path))

    def erase(self, user_id: str) -> ErasureAnswer:
        """The receipt; `erasure` says later how far it has come."""
        return self._connection.ask(ErasureAnswer, Call("DELETE", _path(user_id)))

    def erasure(self, receipt_id: str) -> ErasureAnswer:
        path = f"/v1/erasures/{in_path(receipt_id)}"
        return self._connection.ask(ErasureAnswer, Call("GET", path))

    def link_session(self, session_id: str, user_id: str) -> SessionLinked:
        """A login: what the session did without a user counts as this user's."""
        body = {"session_id": session_id, "user_id": user_id}
        return self._connection.ask(SessionLinked, Call("POST", "/v1/sessions", json=body))


def _path(user_id: str) -> str:
    return f"/v1/users/{in_path(user_id)}"
