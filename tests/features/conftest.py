"""What is stored means the same in SQLite and PostgreSQL: most tests of this room use both."""

from tests.postgres import postgres, postgres_url, store, url

__all__ = ["postgres", "postgres_url", "store", "url"]
