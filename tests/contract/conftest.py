"""One database on each side for all suites that begin with empty tables."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.table_worlds import FakeWorld, SqlWorld, World, empty

from mailbatch.infrastructure.db.engine import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine
    from support.postgres import PostgresServer


@pytest.fixture(scope="session")
def kept_sqlite(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("kept") / "mailbatch.db"
    shutil.copy(sqlite_template, path)
    engine = connect(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def kept_postgres(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Engine]:
    name = postgres_server.create_database(postgres_template)
    engine = connect(postgres_server.url(name))
    yield engine
    engine.dispose()
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(kept_sqlite: Engine) -> str:
    """A migrated SQLite database without a row."""
    return _emptied(kept_sqlite)


@pytest.fixture
def postgres_url(kept_postgres: Engine) -> str:
    """A migrated PostgreSQL database without a row."""
    return _emptied(kept_postgres)


@pytest.fixture
def fresh_postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database of this test's own, to be changed beyond its rows."""
    name = postgres_server.create_database(postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


def _emptied(engine: Engine) -> str:
    empty(engine)
    return engine.url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def kept_engine(request: pytest.FixtureRequest) -> Engine:
    """A migrated database without a row."""
    engine: Engine = request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param])
    empty(engine)
    return engine


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> World:
    """Tables without a row, in memory and on each database."""
    if request.param == "fake":
        return FakeWorld()
    engine = request.getfixturevalue({"sqlite": "kept_sqlite", "postgresql": "kept_postgres"}[request.param])
    empty(engine)
    return SqlWorld(engine)
