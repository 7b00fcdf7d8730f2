"""The schema's version: bring it up, take it down, and refuse to work on another one."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mailbatch.domain.errors import NotMigrated
from mailbatch.infrastructure.db.engine import connect, place, reading, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

_MIGRATION_LOCK = 0x6D61696C
"""The key of PostgreSQL's advisory lock around a migration: "mail" in ASCII."""


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema of the database at ``url`` up to ``revision``. Raises ``StoreError``."""
    with _configured(url) as config:
        command.upgrade(config, revision)


def downgrade(url: str, revision: str = "base") -> None:
    """Take the schema down to ``revision``; ``base`` removes every table, and what is in them."""
    with _configured(url) as config:
        command.downgrade(config, revision)


def head() -> str:
    """The revision with which this version of mailbatch works."""
    return ScriptDirectory.from_config(_config()).get_current_head() or "base"


def current(engine: Engine) -> str | None:
    """The revision at which the database is; None for a database without our tables."""
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def ensure_migrated(engine: Engine) -> None:
    """Raise ``NotMigrated``, saying what to run, unless the schema is the one that this version works with."""
    found, wanted = current(engine), head()
    if found == wanted:
        return
    if found is None:
        raise NotMigrated(f"the database {place(engine)} has no mailbatch tables; run `mailbatch migrate`")
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    advice = "run `mailbatch migrate`" if found in known else "it was migrated by a newer mailbatch: upgrade this one"
    raise NotMigrated(f"the database {place(engine)} is at revision {found}, this mailbatch needs {wanted}; {advice}")


@contextmanager
def _configured(url: str) -> Iterator[Config]:
    """A configuration that carries one open transaction: a migration that fails leaves nothing behind."""
    config, engine = _config(), connect(url)
    try:
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                # Two hosts that migrate at once go one after the other; SQLite's BEGIN IMMEDIATE does that by itself.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            yield config
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    return config


def _scripts() -> Path:
    """The folder of migrations: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
