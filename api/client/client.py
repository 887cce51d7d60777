"""What a storefront calls, method by method; answers are the models of `api.answers`."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypedDict, Unpack

from api.answers import Alive, ManyAnswer, Ready, SlateAnswer, ValidAnswer
from api.client.catalogue import Items
from api.client.connection import Call, Connection, given
from api.client.events import Event, Events
from api.client.experiments import Experiments
from api.client.merchandising import Placements, Rules
from api.client.users import Users


class SlateAsked(TypedDict, total=False):
    """What one slate is asked for; see POST /v1/recommend."""

    placement: str
    k: int
    context_item_ids: Sequence[str]
    query: str
    filter: str
    exclude_ids: Sequence[str]
    return_properties: bool | Sequence[str]
    explain: bool
    policy: Mapping[str, float]


class Asked(SlateAsked, total=False):
    """And for whom; without an id the shopper is a stranger."""

    user_id: str
    session_id: str


class Client:
    """One server, or several behind one address; thread-safe. Close it, or use it in `with`.

    429 and 503 are tried again up to `max_retries` times, as long after as the server says;
    a broken connection too, where the server may get the request twice without harm.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key: str | None = None,
        timeout_s: float = 10.0,
        max_retries: int = 4,
        on_rejected: Callable[[Event, str], None] | None = None,
    ) -> None:
        self._connection = Connection(
            base_url, key=key, timeout_s=timeout_s, max_retries=max_retries
        )
        self.events = Events(self._connection, on_rejected=on_rejected)
        self.items = Items(self._connection)
        self.users = Users(self._connection)
        self.placements = Placements(self._connection)
        self.rules = Rules(self._connection)
        self.experiments = Experiments(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Events that wait are sent first; RecommenderError if they cannot be."""
        try:
            self.events.close()
        finally:
            self._connection.close()

    def recommend(self, **asked: Unpack[Asked]) -> SlateAnswer:
        return self._connection.ask(SlateAnswer, Call("POST", "/v1/recommend", json=asked))

    def validate(self, **asked: Unpack[Asked]) -> ValidAnswer:
        """Whether the request would be answered, without answering it."""
        body = {**asked, "validate_only": True}
        return self._connection.ask(ValidAnswer, Call("POST", "/v1/recommend", json=body))

    def next_page(self, request_id: str, *, k: int | None = None) -> SlateAnswer:
        """What follows a slate, or a page of it; nothing is shown twice."""
        body = given(request_id=request_id, k=k)
        call = Call("POST", "/v1/recommend/next", json=body, again=False)  # it turns the page
        return self._connection.ask(SlateAnswer, call)

    def recommend_many(
        self,
        slates: Sequence[SlateAsked],
        *,
        user_id: str | None = None,
        session_id: str | None = None,
    ) -> ManyAnswer:
        """All slates of a page, no item twice; what comes first may choose first."""
        body = given(slates=list(slates), user_id=user_id, session_id=session_id)
        return self._connection.ask(ManyAnswer, Call("POST", "/v1/recommend/many", json=body))

    def alive(self) -> Alive:
        return self._connection.ask(Alive, Call("GET", "/healthz"))

    def ready(self) -> Ready:
        return self._connection.ask(Ready, Call("GET", "/readyz"))

    def metrics(self) -> str:
        """In the words of Prometheus."""
        return self._connection.send(Call("GET", "/metrics")).text
