"""VIEWS.md, made from FEATURE_VIEWS: `python -m features.views_table` writes it anew."""

from collections.abc import Iterator
from pathlib import Path

from features.views import FEATURE_VIEWS

PATH = Path(__file__).with_name("VIEWS.md")
COMMAND = "python -m features.views_table"

ENTITIES = {
    "shopper × item": "Of a shopper and an item",
    "item": "Of an item",
    "shopper": "Of a shopper",
}


def views_table() -> str:
    """Markdown, a table for each entity, views in the order of their columns."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Feature views"
    yield ""
    yield f"The ranker reads {len(FEATURE_VIEWS)} views, declared in [views.py](views.py). This"
    yield f"page is generated: `{COMMAND}` writes it. Any view may be NaN: unknown."
    for entity, heading in ENTITIES.items():
        yield from ("", f"## {heading}", "")
        yield "| view | window | dtype | group | meaning |"
        yield "|---|---|---|---|---|"
        for view in FEATURE_VIEWS:
            if view.entity == entity:
                yield (
                    f"| `{view.name}` | {view.window} | {view.dtype} | {view.group} "
                    f"| {view.meaning} |"
                )


if __name__ == "__main__":
    PATH.write_text(views_table(), encoding="utf-8")
