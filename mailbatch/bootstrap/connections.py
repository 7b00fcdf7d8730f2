"""The connections of one process to its database and its Redis, and what stands directly on them."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.domain.errors import StoreError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.infrastructure.system.clock import SystemClock

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy.engine import Engine

    from mailbatch.bootstrap.stores import Stores
    from mailbatch.config import Settings
    from mailbatch.domain.database import DatabaseIdentity
    from mailbatch.infrastructure.redis.keys import Keys
    from mailbatch.infrastructure.redis.lock import RedisLock
    from mailbatch.infrastructure.redis.status import RedisStatusBoard

log = logging.getLogger(__name__)


class Connections:
    """Makes each connection when it is first used. Connections do not survive a fork: a forked process makes its own.

    Imports stand in the methods, so that a command loads only what it uses.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()

    # --- the database ---

    @cached_property
    def engine(self) -> Engine:
        """The database's pool of connections."""
        from mailbatch.infrastructure.db.engine import connect

        return connect(self.settings.database_url, self.settings.database_schema)

    @cached_property
    def stores(self) -> Stores:
        """The stores in the database."""
        from mailbatch.bootstrap.settings import channel_names
        from mailbatch.bootstrap.stores import Stores

        return Stores(self.engine, channel_names(self.settings))

    def identify(self) -> DatabaseIdentity:
        """Ask the database which one it is. Raises ``StoreError``."""
        from mailbatch.infrastructure.db.identity import identify

        return identify(self.engine)

    def identity(self) -> DatabaseIdentity | None:
        """Ask the database which one it is. If it cannot be asked, log a warning and return None."""
        try:
            return self.identify()
        except StoreError as error:
            log.warning("the database cannot say which one it is: %s", error)
            return None

    def ensure_migrated(self) -> None:
        """Raise ``StoreError`` or ``NotMigrated`` unless the database can be asked and has its tables."""
        from mailbatch.infrastructure.db.revision import is_current

        if not is_current(self.engine):
            # It imports Alembic, which a process needs only then.
            from mailbatch.infrastructure.db.migrate import ensure_migrated

            ensure_migrated(self.engine)

    # --- Redis ---

    @cached_property
    def redis(self) -> Redis:
        """The pool of connections to Redis."""
        from mailbatch.infrastructure.redis.client import connect

        return connect(self.settings.redis_url)

    @property
    def keys(self) -> Keys:
        """The names of our keys in Redis."""
        from mailbatch.infrastructure.redis.keys import Keys

        return Keys(self.settings.namespace)

    @cached_property
    def status_board(self) -> RedisStatusBoard:
        """The board on which running jobs show their progress."""
        from mailbatch.infrastructure.redis.status import RedisStatusBoard

        return RedisStatusBoard(self.redis, self.keys)

    def lock(self, job: str) -> RedisLock:
        """Return a new lock for one run of ``job``."""
        from mailbatch.infrastructure.redis.lock import RedisLock

        return RedisLock(self.redis, self.keys.lock(job), self.settings.lock_ttl, database=self.identity)

    def ping_redis(self) -> None:
        """Raise ``LockUnavailable`` unless Redis answers."""
        self.lock(SEND_ALL).peek()

    def let_fork(self) -> None:
        """Close what must not be open in a fork: an SQLite database. A connection to PostgreSQL stays open."""
        if self.engine.dialect.name == "sqlite":
            self.engine.dispose()

    def close(self) -> None:
        """Close the connections that were made."""
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "redis" in self.__dict__:
            self.redis.close()
