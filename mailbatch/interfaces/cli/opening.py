"""Open the parts that a command needs, and close them after it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.bootstrap import Parts


@contextmanager
def opened(*, migrated: bool = True) -> Iterator[Parts]:
    """The parts by the settings of the environment; with ``migrated`` only if the tables are as they must be.

    Raises ``SettingsError``, ``StoreError`` and ``NotMigrated``.
    """
    from mailbatch.bootstrap import Parts, read_settings

    parts = Parts(read_settings())
    try:
        if migrated:
            from mailbatch.infrastructure.db.migrate import ensure_migrated

            ensure_migrated(parts.engine)
        yield parts
    finally:
        parts.close()
