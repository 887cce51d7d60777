"""The command that forgets a user now, without waiting for the night."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from features.errors import ConfigError
from features.store import Store
from jobs.console import Terminal
from recsys.experiments.stored import forget
from recsys.releases import Releases
from recsys.settings import read_settings


def erase(
    user_id: Annotated[str | None, typer.Argument(help="Whom to forget")] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="Nobody new: finish what the API was asked for")
    ] = False,
) -> None:
    """Remove a user from store, lake and kept results now; the night does the same."""
    from jobs.forgetting import releases_before
    from jobs.ingest import ingest
    from jobs.plan import Places, night_lock

    if (user_id is None) != pending:
        raise ConfigError(
            "found neither or both of USER_ID and --pending; expected one of them; "
            "write `python -m jobs erase USER_ID` or `python -m jobs erase --pending`"
        )
    settings, terminal, now_us = read_settings(), Terminal(), time.time_ns() // 1_000
    with Store.open(settings.database_url) as store:
        if user_id is not None:
            made = store.people.erase(user_id, requested_at_us=now_us)
            forget(store.documents, {user_id, *made.session_ids}, now=datetime.now(UTC))
            removed = ", ".join(f"{n:,} {table}" for table, n in made.counts.items())
            terminal.say(f"Receipt {made.receipt_id}. Removed from the store: {removed}.")
        with night_lock(settings.work_dir):
            done = ingest(store, Places.of(settings), now_us, terminal).forgotten
    for erasure in done:
        terminal.say(
            f"{erasure.receipt_id}: complete, {erasure.lake_rows or 0:,} rows removed from the lake"
        )
    newest_us = max((erasure.requested_at_us for erasure in done), default=0)
    old = releases_before(Releases(settings.releases_dir), newest_us)
    if old:
        terminal.say(
            "Releases made before hold what they learned of them until they are pruned: "
            f"{', '.join(old)}. Servers treat those users as strangers meanwhile. Backups of the "
            "database are yours to expire."
        )
