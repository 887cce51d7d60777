"""The storefront's side of the API: typed, synchronous, without the server's libraries.

with Client("http://127.0.0.1:8000", key="…") as shop:
    slate = shop.recommend(user_id="u-17", placement="home", k=12)
    shop.events.track("click", "lamp-4", user_id="u-17", request_id=slate.request_id)
"""

from api.client.client import Asked, Client, SlateAsked
from api.client.connection import RecommenderError

__all__ = ["Asked", "Client", "RecommenderError", "SlateAsked"]
