"""A search for better defaults as tables for people and as TOML for a night."""

from jobs.console import Terminal
from jobs.tuning import Found, Tried

SHOWN = 10  # configurations


def show_search(terminal: Terminal, found: Found) -> None:
    names = tuple(found.best.scores)
    parameters = tuple(found.best.values)
    shown = list(found.tried[:SHOWN])
    if found.place_of_defaults > SHOWN:
        shown.append(found.tried[found.place_of_defaults - 1])
    terminal.table(
        f"{found.part}: nDCG@10 on validation windows, relative to the defaults' and as it is",
        ("trial", "relative", *names, *parameters),
        [_row(found, tried) for tried in shown],
    )
    terminal.say(
        f"The defaults are number {found.place_of_defaults} of {len(found.tried)}; "
        f"{found.pruned} more were left early. The best of many trials owes some of its lead to "
        "luck: compare it with the defaults on other seeds before it ships."
    )
    if found.importance:
        rows = [[name, share] for name, share in found.importance.items()]
        terminal.table("What made a difference", ("parameter", "importance"), rows)
    terminal.say("For RECSYS_NIGHT_CONFIG_PATH:\n" + toml_lines(found))


def toml_lines(found: Found) -> str:
    """The best configuration, as `night_config` reads it."""
    values = found.best.values.items()
    lines = "\n".join(f"{name} = {_toml(value)}" for name, value in values)
    return f"[recipe.{found.part}]\n{lines}\n"


def _row(found: Found, tried: Tried) -> list[object]:
    name = f"{tried.number} (defaults)" if tried.number == found.defaults else str(tried.number)
    values = [value if isinstance(value, int) else _toml(value) for value in tried.values.values()]
    return [name, tried.value, *tried.scores.values(), *values]


def _toml(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
