"""The tables of one database, each as the port that its readers know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailbatch.infrastructure.db.audit_log import SqlAuditLog
from mailbatch.infrastructure.db.blocks import SqlBlocks
from mailbatch.infrastructure.db.circuits import SqlCircuits
from mailbatch.infrastructure.db.duplicates import SqlDuplicates
from mailbatch.infrastructure.db.files import SqlFiles
from mailbatch.infrastructure.db.health_query import SqlHealthQuery
from mailbatch.infrastructure.db.idempotency import SqlIdempotencyKeys
from mailbatch.infrastructure.db.incidents import SqlIncidents
from mailbatch.infrastructure.db.interventions import SqlInterventions
from mailbatch.infrastructure.db.lanes import SqlLanes
from mailbatch.infrastructure.db.metrics import SqlMeasures
from mailbatch.infrastructure.db.quotas import SqlQuotas
from mailbatch.infrastructure.db.reports import SqlReports
from mailbatch.infrastructure.db.reservations import SqlReservations
from mailbatch.infrastructure.db.run_reports import SqlOutbox
from mailbatch.infrastructure.db.runs import SqlPauseStore, SqlRuns
from mailbatch.infrastructure.db.upcoming import SqlUpcoming

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


class Stores:
    """Every store of the database of ``engine``, but for the backlog of a lane (``bootstrap/sending.py``).

    ``channels``: the names of the channels through which each run that ends is reported.
    """

    def __init__(self, engine: Engine, channels: tuple[str, ...] = ()) -> None:
        self.audit_log = SqlAuditLog(engine)
        self.blocks = SqlBlocks(engine)
        self.circuits = SqlCircuits(engine)
        self.duplicates = SqlDuplicates(engine)
        self.files = SqlFiles(engine)
        self.health = SqlHealthQuery(engine)
        self.idempotency_keys = SqlIdempotencyKeys(engine)
        self.incidents = SqlIncidents(engine)
        self.interventions = SqlInterventions(engine)
        self.lanes = SqlLanes(engine)
        self.measures = SqlMeasures(engine)
        self.outbox = SqlOutbox(engine)
        self.pauses = SqlPauseStore(engine)
        self.quotas = SqlQuotas(engine)
        self.reports = SqlReports(engine)
        self.reservations = SqlReservations(engine)
        self.runs = SqlRuns(engine, channels)
        self.upcoming = SqlUpcoming(engine)
