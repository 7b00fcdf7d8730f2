"""The operators' use cases on a database, with an audit log in memory."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from support.fake_audit_log import FakeAuditLog

from mailbatch.application.acting.act import ActOnReservations
from mailbatch.application.acting.audit import Audit
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.portions import LONG, SHORT, Portions
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.system.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.engine import Engine

    from mailbatch.domain.act import Act
    from mailbatch.domain.change import Changed, ChangeResult
    from mailbatch.domain.selection import Scope

ACTOR = "cli:ann"


def steady(rows: int) -> Portions:
    """Portions of ``rows`` rows, however long they take."""
    return Portions(clock=count(0, (SHORT + LONG) / 2).__next__, pause=lambda _seconds: None, size=rows)


def acting(engine: Engine, reservations: Any = None, portions: Portions | None = None) -> ActOnReservations:
    """The use case; a test may give ``reservations`` of its own. By default portions have three rows."""
    return ActOnReservations(
        reservations=reservations or SqlReservations(engine),
        interventions=SqlInterventions(engine, portions or steady(3)),
        reports=SqlReports(engine),
        audit=Audit(FakeAuditLog(), SystemClock()),
    )


def act_on(engine: Engine, act: Act, ids: Sequence[UUID]) -> list[ChangeResult]:
    """Do ``act`` to single reservations."""
    return acting(engine).on_ids(ACTOR, act, ids)


def act_on_all(engine: Engine, act: Act, scope: Scope, portions: Portions | None = None) -> Changed:
    """Do ``act`` to all of ``scope``."""
    return acting(engine, portions=portions).on_all(ACTOR, act, scope)
