"""What HTTP alone costs here: an endpoint that reads a body, checks it and answers 1.5 kB."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

N_ITEMS = 20
TITLE = "an item of the usual kind, with a title"


class FloorBody(BaseModel):
    """As much as a recommend request says."""

    user_id: str
    k: int
    placement: str = "home"
    context_item_ids: list[str] = []


class FloorItem(BaseModel):
    """One of N_ITEMS, about 75 bytes."""

    item_id: str
    score: float
    title: str


class FloorAnswer(BaseModel):
    """About 1.5 kB as JSON."""

    user_id: str
    items: list[FloorItem]


app = FastAPI()


@app.post("/floor", response_model=FloorAnswer)
async def floor(body: FloorBody) -> dict[str, object]:
    items = [{"item_id": f"i{n}", "score": 1 / (1 + n), "title": TITLE} for n in range(N_ITEMS)]
    return {"user_id": body.user_id, "items": items}


def main() -> None:
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main()
