"""The Celery app: each call carries the identity of the caller's database, and the worker checks it."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery

from mailbatch.domain.database import read_identity
from mailbatch.domain.errors import CallRefused, JobExecError, MailbatchError, StoreError
from mailbatch.domain.redaction.lines import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.result import AsyncResult

    from mailbatch.domain.database import DatabaseIdentity

log = logging.getLogger(__name__)

HEADER = "mailbatch_database"
"""The message header that carries the caller's database; see ``domain.database``."""


class BatchApp(Celery):  # type: ignore[misc]
    """Celery's app; adds the identity of the caller's database to each call.

    Beat, ``celery call``, commands, HTTP and helpers all call ``send_task``. ``identify`` returns the database of this
    process, or None while it is unavailable. A call without an identity is taken by any worker.
    """

    amqp_cls = "mailbatch.batch.broker:AMQP"

    def __init__(
        self, *args: Any, identify: Callable[[], DatabaseIdentity | None] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._identify = identify or _of_this_process

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery spells it so
        """As Celery's."""
        return self.subclass_with_self("mailbatch.batch.worker:BatchWorker")

    def send_task(self, name: str, *args: Any, headers: dict[str, Any] | None = None, **options: Any) -> AsyncResult:
        """As Celery's."""
        database = self._identify()
        own = {HEADER: database.encode()} if database is not None else {}
        return super().send_task(name, *args, headers={**(headers or {}), **own}, **options)


def ensure_same_database(request: Any, identify: Callable[[], DatabaseIdentity]) -> None:
    """Raise ``CallRefused`` if the call was made for another database than this worker's.

    A call without the header, or with an unreadable one, is taken. Raises ``JobExecError`` if our own database is
    unavailable.
    """
    theirs = read_identity(request.get(HEADER))
    if theirs is None:
        return
    try:
        ours = identify()
    except StoreError as error:
        raise JobExecError(one_line(str(error))) from error
    if ours.is_other_than(theirs):
        raise CallRefused(
            f"this call is for the database {theirs}, but this worker works on {ours}; nothing was done. "
            "Give each installation in this Redis a MAILBATCH_NAMESPACE of its own, or the same MAILBATCH_DATABASE_URL"
        )


def _of_this_process() -> DatabaseIdentity | None:
    from mailbatch.bootstrap import process_parts

    try:
        return process_parts().identity()
    except MailbatchError as error:
        log.warning("a call goes without its database's identity: %s", error)
        return None
