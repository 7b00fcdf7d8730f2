"""The real parts that tests run on: each private, each ending with the tests."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from support.database_pool import DatabasePool, truncate
from support.long import IS_LONG
from support.postgres import PostgresServer
from support.sink import Sink
from support.stack import Stack
from xdist.scheduler import LoadScopeScheduling

from mailbatch.infrastructure.redis import embedded
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine
    from xdist.remote import Producer

    from mailbatch.infrastructure.redis.embedded import EmbeddedRedis

# Every run tries the same examples, so that what fails here fails everywhere. HYPOTHESIS=other looks for others.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("other", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))

WAITING = frozenset({"clients", "e2e", "faults", "smoke"})
"""Folders of tests that mostly wait for whole processes. Beside tests that compute, no core waits with them."""


class Groups(LoadScopeScheduling):
    """Gives each test to whichever process is free, but a file whose tests share a module's fixture to one as a whole.

    xdist's own groups (``@pytest.mark.xdist_group``) do not reach its scheduler with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares_a_fixture(self.config.rootpath / file) else nodeid


@cache
def _shares_a_fixture(file: Path) -> bool:
    return 'scope="module"' in file.read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """What ``--dist loadgroup`` means here."""
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is long, unless it is asked for. Where processes share the tests, spread those that wait."""
    left_out = [] if IS_LONG else [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if "PYTEST_XDIST_WORKER" in os.environ:
        waiting = [item for item in items if item.path.parent.name in WAITING]
        others = [item for item in items if item.path.parent.name not in WAITING]
        items[:] = [item for _, item in sorted([*_spread(waiting, over=0.9), *_spread(others)], key=itemgetter(0))]


def _spread(items: list[pytest.Item], over: float = 1.0) -> list[tuple[float, pytest.Item]]:
    """Give each a place; ``over`` less than 1 leaves none at the end, where only short tests let all end together."""
    return [((n + 0.5) / len(items) * over, item) for n, item in enumerate(items)]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One Redis for all tests that leave it running."""
    folder = tempfile.mkdtemp(prefix="redis-", dir="/tmp")
    with embedded.start(folder, append_only=False) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The shared Redis, empty."""
    with connect(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def private_redis() -> Iterator[EmbeddedRedis]:
    """A Redis of this test's own, to be frozen, killed and restarted. It keeps its data over a restart."""
    folder = tempfile.mkdtemp(prefix="redis-", dir="/tmp")
    with embedded.start(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL, without fsync, for all tests that leave it running."""
    # Without autovacuum the planner knows the same of a table in every run of a test.
    with PostgresServer(durable=False, autovacuum=False) as server:
        yield server


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own that keeps what it has committed: to be frozen, killed and restarted."""
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a migrated, empty database to copy."""
    from mailbatch.infrastructure.db.migrate import upgrade

    name = postgres_server.create_database()
    upgrade(postgres_server.url(name))
    with postgres_server.connected(name) as connection:
        truncate(connection, at_least=0)
    postgres_server.freeze_template(name)
    return name


@pytest.fixture(scope="session")
def postgres_pool(postgres_server: PostgresServer, postgres_template: str) -> DatabasePool:
    """Lends migrated, empty databases."""
    return DatabasePool(postgres_server, postgres_template)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_pool: DatabasePool) -> Iterator[str]:
    """A migrated, empty PostgreSQL database."""
    with postgres_pool.lent() as name:
        yield postgres_server.url(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a migrated, empty SQLite database, to copy."""
    from mailbatch.infrastructure.db.migrate import upgrade

    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database in a file."""
    path = tmp_path / "mailbatch.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database: the test runs once on each kind."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param])
    return url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine with our settings on that database."""
    from mailbatch.infrastructure.db.engine import connect as connect_database

    engine = connect_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def smtp_sink(tmp_path: Path) -> Iterator[Sink]:
    """An SMTP server process that takes everything; its rules may be changed before a ``restart``."""
    with Sink(tmp_path / "sink") as sink:
        yield sink


@pytest.fixture
def stack(postgres_url: str, redis_url: str, smtp_sink: Sink, tmp_path: Path) -> Iterator[Stack]:
    """mailbatch on PostgreSQL, the shared Redis and a sink; nothing runs yet."""
    with Stack(postgres_url, redis_url, smtp_sink.url, tmp_path / "stack") as stack:
        yield stack


@pytest.fixture
def sqlite_stack(sqlite_url: str, redis_url: str, smtp_sink: Sink, tmp_path: Path) -> Iterator[Stack]:
    """As ``stack``, on an SQLite file."""
    with Stack(sqlite_url, redis_url, smtp_sink.url, tmp_path / "stack") as stack:
        yield stack


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that runs in the test's own process configures logging for all of it; the next test starts anew."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in _loggers()}
    yield
    root.handlers[:] = handlers
    for logger in _loggers():
        if logger.level != (level := levels.get(logger, logging.NOTSET)):
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in list(known) if isinstance(logger, logging.Logger))]
