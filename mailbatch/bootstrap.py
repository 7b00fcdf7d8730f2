"""The one place where the parts are put together. Nothing is opened before it is used."""

from __future__ import annotations

import logging
import os
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mailbatch import config
from mailbatch.domain.errors import SettingsError, StoreError
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import DEAD_AFTER
from mailbatch.infrastructure.system.clock import SystemClock, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis
    from sqlalchemy.engine import Engine

    from mailbatch.application.acting.reserve import CheckDraft
    from mailbatch.application.looking.explain import Explain
    from mailbatch.application.looking.inquire import JobStatus
    from mailbatch.application.looking.metrics import Measure
    from mailbatch.application.looking.preview import Preview, TrySending
    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.notifying.incidents import TellIncidents
    from mailbatch.application.ports.notifying import Channel
    from mailbatch.application.ports.sending import RelayMemory
    from mailbatch.application.sending.circuit_breaker import CircuitBreaker
    from mailbatch.application.sending.compose import Compose, Renderer
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.database import DatabaseIdentity
    from mailbatch.domain.health import Patience
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.db.actions import SqlActions
    from mailbatch.infrastructure.db.backlog import SqlBacklog
    from mailbatch.infrastructure.db.circuits import SqlCircuits
    from mailbatch.infrastructure.db.duplicates import SqlDuplicates
    from mailbatch.infrastructure.db.idempotency import SqlIdempotencyKeys
    from mailbatch.infrastructure.db.interventions import SqlInterventions
    from mailbatch.infrastructure.db.lanes import SqlLanes
    from mailbatch.infrastructure.db.reports import SqlReports
    from mailbatch.infrastructure.db.reservations import SqlReservations
    from mailbatch.infrastructure.db.run_reports import SqlOutbox
    from mailbatch.infrastructure.db.runs import SqlPauseStore, SqlRuns
    from mailbatch.infrastructure.db.upcoming import SqlUpcoming
    from mailbatch.infrastructure.redis.keys import Keys
    from mailbatch.infrastructure.redis.lock import RedisLock
    from mailbatch.infrastructure.redis.slots import RedisSlots
    from mailbatch.infrastructure.redis.status import RedisStatusBoard
    from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
    from mailbatch.infrastructure.smtp.relay import SmtpRelay
    from mailbatch.infrastructure.smtp.transport import SmtpTransport
    from mailbatch.infrastructure.templates.apart import RenderApart
    from mailbatch.infrastructure.templates.templates import Templates

log = logging.getLogger(__name__)

FAULTS_OF_A_CONNECTION = 4
"""How many relay faults in a row, for each connection of a lane, end the run."""
UNANSWERED = 25.0
"""Seconds for which a run may get no answer to any mail. The watch looks every 30: so it is said within a minute."""
FIRST_REST = 10.0
"""Seconds for which a relay is left alone when it failed for the first time."""
WAIT_FOR_SLOT = 60.0
"""Seconds for which a mail that no run sends waits for one of the connections that the relay may have."""
LONGEST_REST = 1800.0
"""Seconds after which a relay is probed again at the latest, where ticks are far apart."""


class Parts:
    """The parts of one process, each made when it is first asked for. A forked process makes its own."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()

    # --- what is shared within the process ---

    @cached_property
    def engine(self) -> Engine:
        """The database's connections."""
        from mailbatch.infrastructure.db.engine import connect

        return connect(self.settings.database_url, self.settings.database_schema)

    def identify(self) -> DatabaseIdentity:
        """Which database this is, asked now. Raises ``StoreError``."""
        from mailbatch.infrastructure.db.identity import identify

        return identify(self.engine)

    def identity(self) -> DatabaseIdentity | None:
        """As ``identify``; None, and a warning, if the database cannot be asked."""
        try:
            return self.identify()
        except StoreError as error:
            log.warning("the database cannot say which one it is: %s", error)
            return None

    @cached_property
    def redis(self) -> Redis:
        """The connections to Redis."""
        from mailbatch.infrastructure.redis.client import connect

        return connect(self.settings.redis_url)

    @property
    def keys(self) -> Keys:
        """The names of our keys in Redis."""
        from mailbatch.infrastructure.redis.keys import Keys

        return Keys(self.settings.namespace)

    @cached_property
    def relay(self) -> SmtpRelay:
        """Where mails go."""
        from mailbatch.infrastructure.smtp.ehlo_name import host_name
        from mailbatch.infrastructure.smtp.relay import parse_smtp_url

        return replace(parse_smtp_url(self.settings.smtp_url), local_hostname=self.settings.ehlo_name or host_name())

    @cached_property
    def retry(self) -> RetryPolicy:
        """When a mail that was put off is tried again."""
        s = self.settings
        return RetryPolicy(s.max_attempts, s.retry_backoff, s.retry_backoff_max)

    # --- runs ---

    @cached_property
    def runs(self) -> SqlRuns:
        """The rows of runs."""
        from mailbatch.infrastructure.db.runs import SqlRuns

        return SqlRuns(self.engine, tuple(self.channels))

    @cached_property
    def lanes(self) -> SqlLanes:
        """The helpers of runs."""
        from mailbatch.infrastructure.db.lanes import SqlLanes

        return SqlLanes(self.engine)

    @cached_property
    def pause_store(self) -> SqlPauseStore:
        """The pause of jobs."""
        from mailbatch.infrastructure.db.runs import SqlPauseStore

        return SqlPauseStore(self.engine)

    @cached_property
    def status(self) -> RedisStatusBoard:
        """Where running jobs show their progress."""
        from mailbatch.infrastructure.redis.status import RedisStatusBoard

        return RedisStatusBoard(self.redis, self.keys)

    def lock(self, job: str) -> RedisLock:
        """A new lock for one run of ``job``."""
        from mailbatch.infrastructure.redis.lock import RedisLock

        return RedisLock(self.redis, self.keys.lock(job), self.settings.lock_ttl, database=self.identity)

    # --- telling people ---

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """By what ways the ends of runs, and incidents, are told."""
        s = self.settings
        found: dict[str, Channel] = {}
        if s.webhook_url:
            from mailbatch.infrastructure.notify.webhook import Webhook

            secret = s.webhook_secret.get_secret_value() if s.webhook_secret else None
            found["webhook"] = Webhook(s.webhook_url, secret)
        if s.report_to:
            from mailbatch.infrastructure.notify.mail import ReportByMail

            found["mail"] = ReportByMail(s.report_to, self.compose, lambda: self.transport, _for_a_while)
        return found

    @cached_property
    def outbox(self) -> SqlOutbox:
        """The reports on their way."""
        from mailbatch.infrastructure.db.run_reports import SqlOutbox

        return SqlOutbox(self.engine)

    @property
    def tell_incidents(self) -> TellIncidents:
        """Tells what the watch finds and no run can tell."""
        from mailbatch.application.notifying.incidents import TellIncidents
        from mailbatch.infrastructure.db.incidents import SqlIncidents

        return TellIncidents(SqlIncidents(self.engine), self.channels)

    # --- sending ---

    @cached_property
    def backlog(self) -> SqlBacklog:
        """The reservations that are due."""
        from mailbatch.infrastructure.db.backlog import SqlBacklog

        return SqlBacklog(
            engine=self.engine,
            lease=self.settings.lease,
            retry=self.retry,
            message_id_domain=self._message_id_domain(),
            max_lateness=self.settings.max_lateness,
            strict=self.settings.strict,
        )

    @cached_property
    def compose(self) -> Compose:
        """Makes messages of mails, in this process: for runs."""
        return self._compose(self._templates)

    @cached_property
    def compose_apart(self) -> Compose:
        """Makes messages of mails, rendered in a process that can be killed: for whoever only looks."""
        return self._compose(self.render_apart)

    @cached_property
    def render_apart(self) -> RenderApart:
        """Renders mails in processes that can be killed."""
        from mailbatch.infrastructure.templates.apart import RenderApart

        return RenderApart(self.settings.template_dir, self.settings.max_message_bytes)

    def _compose(self, render: Renderer) -> Compose:
        from mailbatch.application.sending.compose import Compose
        from mailbatch.infrastructure.mime.addresses import read_addresses
        from mailbatch.infrastructure.mime.compiled import CompiledWriter

        s = self.settings
        return Compose(
            read_addresses=read_addresses,
            render=render,
            write=CompiledWriter(),
            now=lambda: datetime.now(UTC),
            max_bytes=s.max_message_bytes,
            sender=s.sender,
            redirect_all_to=s.redirect_all_to,
        )

    @property
    def transport(self) -> SmtpTransport:
        """A way to the relay, for one lane."""
        from mailbatch.application.sending.in_flight import SETTLE_EVERY
        from mailbatch.infrastructure.smtp.transport import SmtpTransport

        s = self.settings
        return SmtpTransport(
            self.relay,
            connections=s.connections,
            window=s.window,
            breath=SETTLE_EVERY,
            capabilities=self._manners,
            slots=self.slots,
        )

    @cached_property
    def slots(self) -> RedisSlots | None:
        """Who says how many connections to the relay there may be in all; None without such a limit."""
        s = self.settings
        if not s.relay_connections:
            return None
        from mailbatch.infrastructure.redis.slots import RedisSlots

        return RedisSlots(self.redis, self.keys.connections(self.relay.name), s.relay_connections, s.lock_ttl)

    def relay_connections(self) -> dict[str, int]:
        """How many connections all lanes and hosts have, by relay; nothing where they are not counted."""
        count = self.slots.count() if self.slots is not None else None
        return {} if count is None else {self.relay.name: count}

    @cached_property
    def _manners(self) -> RelayCapabilities:
        """What this process has learned of the relay, and others before it."""
        from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities

        return RelayCapabilities(memory=lambda: self._relay_memory)

    @cached_property
    def _relay_memory(self) -> RelayMemory:
        from mailbatch.infrastructure.redis.relay_memory import RedisRelayMemory

        return RedisRelayMemory(self.redis, self.keys.habits(self.relay.name))

    @property
    def send_due(self) -> SendDue:
        """One lane's work in a run."""
        from mailbatch.application.sending.compose_watched import ComposeWatched
        from mailbatch.application.sending.send_due import SendDue
        from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

        s = self.settings
        watchdog = ProcessWatchdog(s.database_url)
        send_due = SendDue(
            backlog=self.backlog,
            compose=ComposeWatched(self.compose, watchdog),
            transport=self.transport,
            clock=self.clock,
            jitter=random.random,
            retry=self.retry,
            on_doubt=s.on_doubt,
            group_size=s.group_size,
            page_size=s.page_size,
            lease=s.lease,
            strict=s.strict,
            relay_faults=s.connections * FAULTS_OF_A_CONNECTION,
            guard=self.circuit_breaker,
            slots=self.slots,
            watchdog=watchdog,
        )
        return self._traced(send_due)

    def _traced(self, send_due: SendDue) -> SendDue:
        """``send_due`` with spans round its ports, where this process traces."""
        from mailbatch.infrastructure.tracing.enabled import enabled

        if not enabled():
            return send_due
        from mailbatch.infrastructure.db.traces import headers_of
        from mailbatch.infrastructure.tracing.lane import traced
        from mailbatch.infrastructure.tracing.provider import tracer

        return traced(send_due, tracer(), lambda ids: headers_of(self.engine, ids))

    @cached_property
    def circuits(self) -> SqlCircuits:
        """What is known of relays that failed."""
        from mailbatch.infrastructure.db.circuits import SqlCircuits

        return SqlCircuits(self.engine)

    @property
    def circuit_breaker(self) -> CircuitBreaker:
        """Leaves the relay alone after it failed."""
        from mailbatch.application.sending.circuit_breaker import CircuitBreaker
        from mailbatch.domain.circuit import CircuitPolicy
        from mailbatch.infrastructure.cron import shortest_gap

        # Below the interval, so that each tick is a probe at least.
        longest = min(shortest_gap(self.settings.when, datetime.now(UTC)) * 0.9, LONGEST_REST)
        policy = CircuitPolicy(min(FIRST_REST, longest), longest, self.settings.retry_backoff_max)
        return CircuitBreaker(circuits=self.circuits, relay=self.relay.name, policy=policy, jitter=random.random)

    # --- operating ---

    def watch(self, job: str, *, lock: bool = True) -> Watch:
        """Looks at ``job`` from outside of its runs; without ``lock`` it asks no Redis."""
        from mailbatch.application.looking.watch import Watch
        from mailbatch.infrastructure.db.health_query import SqlHealthQuery

        return Watch(
            health_query=SqlHealthQuery(self.engine),
            runs=self.runs,
            pause_store=self.pause_store,
            driver=self.lock(job) if lock else None,
            circuits=self.circuits,
            relay=self.relay.name,
            patience=self._patience,
            remaining=self._remaining,
            sends=job == "send-all",
        )

    def standing(self, job: str) -> JobStatus:
        """How ``job`` and its backlog stand now, Redis or not. Raises ``StoreError``."""
        from mailbatch.application.looking.inquire import ShowJobStatus

        return ShowJobStatus(reports=self.reports, board=self.status, watch=self.watch(job))(job)

    def _remaining(self) -> int:
        # Not its method: whoever only looks needs no backlog.
        return self.backlog.remaining()

    @property
    def explain(self) -> Explain:
        """Says why a reservation has not gone yet, or what became of it."""
        from mailbatch.application.looking.explain import Explain
        from mailbatch.infrastructure.db.health_query import SqlQueue

        return Explain(
            reservations=self.reservations,
            reports=self.reports,
            queue=SqlQueue(self.engine),
            watch=self.watch("send-all"),
            compose=self.compose_apart,
        )

    def _patience(self) -> Patience:
        from mailbatch.application.looking.next_run import GRACE
        from mailbatch.domain.health import Patience
        from mailbatch.infrastructure.cron import back

        now = datetime.now(UTC)
        return Patience(
            quiet=(now - back(self.settings.when, now, 2)).total_seconds() + GRACE,
            dead_after=DEAD_AFTER,
            lock_ttl=self.settings.lock_ttl,
            lease=self.settings.lease,
            unanswered=UNANSWERED,
        )

    @cached_property
    def reservations(self) -> SqlReservations:
        """All reservations, to store and to read."""
        from mailbatch.infrastructure.db.reservations import SqlReservations

        return SqlReservations(self.engine)

    @cached_property
    def interventions(self) -> SqlInterventions:
        """What operators do to reservations."""
        from mailbatch.infrastructure.db.interventions import SqlInterventions

        return SqlInterventions(self.engine)

    @property
    def preview(self) -> Preview:
        """Renders mails to be looked at."""
        from mailbatch.application.looking.preview import Preview

        return Preview(self.render_apart, self.reservations)

    @property
    def try_sending(self) -> TrySending:
        """Sends one mail past the backlog."""
        from mailbatch.application.looking.preview import TrySending

        domain = self._message_id_domain()
        return TrySending(
            compose=self.compose_apart,
            transport=self.transport,
            permit=_for_a_while(),
            new_id=new_id,
            message_id=lambda own: f"<{own}@{domain}>",
        )

    def ensure_migrated(self) -> None:
        """Raise ``StoreError`` or ``NotMigrated`` unless the database can be asked and has its tables."""
        from mailbatch.infrastructure.db.revision import ensure_migrated

        ensure_migrated(self.engine)

    def ping_redis(self) -> None:
        """Raise ``LockUnavailable`` unless Redis answers."""
        self.lock("send-all").peek()

    @cached_property
    def actions(self) -> SqlActions:
        """What operators did."""
        from mailbatch.infrastructure.db.actions import SqlActions

        return SqlActions(self.engine)

    @cached_property
    def answers(self) -> SqlIdempotencyKeys:
        """Answers to requests with an idempotency key."""
        from mailbatch.infrastructure.db.idempotency import SqlIdempotencyKeys

        return SqlIdempotencyKeys(self.engine)

    @cached_property
    def reports(self) -> SqlReports:
        """What is known of runs and of the backlog."""
        from mailbatch.infrastructure.db.reports import SqlReports

        return SqlReports(self.engine)

    @cached_property
    def resent(self) -> SqlDuplicates:
        """Mails that somebody may have got twice."""
        from mailbatch.infrastructure.db.duplicates import SqlDuplicates

        return SqlDuplicates(self.engine)

    def due_up_to(self, most: int) -> int:
        """How many reservations are due, counted up to ``most``. Raises ``StoreError``."""
        from mailbatch.infrastructure.db.upcoming import SqlUpcoming

        return SqlUpcoming(self.engine, most).count(None)[0]

    @cached_property
    def upcoming(self) -> SqlUpcoming:
        """What the next run would send."""
        from mailbatch.infrastructure.db.upcoming import SqlUpcoming

        return SqlUpcoming(self.engine)

    @cached_property
    def measure(self) -> Measure:
        """The figures for a monitoring system."""
        from mailbatch.application.looking.metrics import Measure
        from mailbatch.infrastructure.db.metrics import SqlMeasures

        watch = self.watch("send-all", lock=False)
        return Measure(self.reports, SqlMeasures(self.engine), lambda: watch.unanswered("send-all"))

    @cached_property
    def check_draft(self) -> CheckDraft:
        """Makes reservations of what was asked for. Templates are compiled in this process: for commands."""
        return self._check_draft(self._source_problems)

    @cached_property
    def check_draft_apart(self) -> CheckDraft:
        """Makes reservations of what was asked for. Templates are compiled in a process that can be killed."""
        return self._check_draft(self.render_apart.problems)

    def _check_draft(self, source_problems: Callable[[Mail], list[str]]) -> CheckDraft:
        from mailbatch.application.acting.reserve import CheckDraft
        from mailbatch.infrastructure.mime.addresses import read_addresses
        from mailbatch.infrastructure.mime.fields import unwritable

        return CheckDraft(
            new_id=new_id,
            read_addresses=read_addresses,
            unwritable_headers=unwritable,
            max_message_bytes=self.settings.max_message_bytes,
            source_problems=source_problems,
        )

    def _source_problems(self, mail: Mail) -> list[str]:
        # Most mails need no template engine, and it takes a while to import.
        if mail.template is None and not any(s and "{" in s for s in (mail.subject, mail.body_text, mail.body_html)):
            return []
        return self._templates.problems(mail)

    @cached_property
    def _templates(self) -> Templates:
        from mailbatch.infrastructure.templates.templates import Templates

        return Templates(self.settings.template_dir, self.settings.max_message_bytes, look_again=1.0)

    def unchecked_template(self, mail: Mail) -> str | None:
        """Say that the template of ``mail`` is not looked at here, if that is so."""
        if not mail.template or self.settings.template_dir is not None:
            return None
        return (
            f"template {mail.template}: is not checked, because {config.PREFIX}TEMPLATE_DIR is not set here; "
            "the worker must have it"
        )

    def _message_id_domain(self) -> str:
        """The right side of every Message-ID: the sender's domain, not this host's name, which leaks and costs DNS."""
        from mailbatch.infrastructure.mime.addresses import read_addresses

        sender = self.settings.sender
        return read_addresses(sender)[0].domain if sender else "mailbatch.invalid"

    def close(self) -> None:
        """Close what was opened."""
        if "render_apart" in self.__dict__:
            self.render_apart.close()
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "redis" in self.__dict__:
            self.redis.close()


def _for_a_while() -> Callable[[], bool]:
    """A permit to send, from now on."""
    ends = time.monotonic() + WAIT_FOR_SLOT
    return lambda: time.monotonic() < ends


def read_settings() -> config.Settings:
    """The settings of this process, checked by those who will use them as well. Nothing is opened.

    Raises:
        SettingsError: with one line for each setting that is wrong.
    """
    from mailbatch.infrastructure.db.urls import read_parameters
    from mailbatch.infrastructure.mime.addresses import read_addresses
    from mailbatch.infrastructure.smtp.ehlo_name import read_ehlo_name
    from mailbatch.infrastructure.smtp.relay import parse_smtp_url

    settings = config.load()
    readers: dict[str, Callable[[str], object]] = {
        "database_url": read_parameters,
        "smtp_url": parse_smtp_url,
        "ehlo_name": read_ehlo_name,
        "sender": read_addresses,
        "redirect_all_to": read_addresses,
        "report_to": read_addresses,
    }
    wrong = []
    for name, read in readers.items():
        value = getattr(settings, name)
        try:
            _ = value and read(value)
        except ValueError as error:
            wrong.append(f"{config.PREFIX}{name.upper()}={config.masked(name, value)}: {error}")
    if settings.webhook_url and not (find_spec("httpx2") and find_spec("standardwebhooks")):
        wrong.append(f"{config.PREFIX}WEBHOOK_URL: needs the extra `webhook`: pip install 'mailbatch[webhook]'")
    if settings.report_to and not settings.sender:
        wrong.append(f"{config.PREFIX}REPORT_TO: needs {config.PREFIX}SENDER, from whom the reports come")
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


_of_process: tuple[int, Parts] | None = None


def process_parts() -> Parts:
    """The parts of this process: after a fork they are made anew, for connections do not survive one."""
    global _of_process  # noqa: PLW0603 - a process has one set of connections, and Celery gives a task no place for it
    if _of_process is None or _of_process[0] != os.getpid():
        _of_process = (os.getpid(), Parts(read_settings()))
    return _of_process[1]
