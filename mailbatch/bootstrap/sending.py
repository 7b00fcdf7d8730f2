"""Makes the parts that send mails: the backlog, the composer, the transport to the relay, the work of a lane."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.bootstrap.enclosing import new_enclose
from mailbatch.bootstrap.gates import make_gates
from mailbatch.bootstrap.relays import Relays, faults_of
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import crash_bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailbatch.application.ports.sending import Renderer
    from mailbatch.application.ports.stores import Files
    from mailbatch.application.sending.compose import Compose
    from mailbatch.application.sending.in_flight_limit import Urgency
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.application.sending.urgent_mail import UrgentMail
    from mailbatch.config import Settings
    from mailbatch.domain.return_path import ReturnPath
    from mailbatch.infrastructure.db.backlog import SqlBacklog
    from mailbatch.infrastructure.spool import Spool
    from mailbatch.infrastructure.templates.options import Options
    from mailbatch.infrastructure.templates.renderer import TemplateRenderer

IN_FLIGHT_OF_A_CONNECTION = 4
"""Mails for each connection of a lane that keep it busy: two of them wait for the next claim at most."""
WAIT_FOR_SLOT = 60.0
"""Seconds for which a mail outside of a run waits for one of the connections that the relay may have."""


class Sending(Relays):
    """Makes what sends mails, for one process. ``transport`` and ``send_due`` are made anew each time: one a lane."""

    @cached_property
    def retry(self) -> RetryPolicy:
        """When a deferred mail is tried again."""
        s = self._settings
        return RetryPolicy(s.max_attempts, s.retry_backoff, s.retry_backoff_max)

    @cached_property
    def backlog(self) -> SqlBacklog:
        """The reservations that are due."""
        from mailbatch.infrastructure.db.backlog import SqlBacklog

        s = self._settings
        return SqlBacklog(
            engine=self._connections.engine,
            lease=s.lease,
            retry=self.retry,
            message_id_domain=message_id_domain(s.sender),
            max_lateness=s.max_lateness,
            strict=s.strict,
        )

    @property
    def urgent_mail(self) -> UrgentMail:
        """Decides whether urgent mail starts a run. Make it only if mail of some priority is urgent."""
        from mailbatch.application.sending.urgent_mail import UrgentMail

        stores, priority = self._connections.stores, self._settings.urgent_from
        assert priority is not None  # noqa: S101 - for mypy: the caller has checked it
        return UrgentMail(
            backlog=self.backlog,
            pause_store=stores.pauses,
            runs=stores.runs,
            circuits=stores.circuits,
            relays=tuple(one.name for one in self.relays),
            priority=priority,
        )

    def due_up_to(self, most: int) -> int:
        """Count the reservations that are due, up to ``most``. Raises ``StoreError``."""
        from mailbatch.infrastructure.db.upcoming import SqlUpcoming

        return SqlUpcoming(self._connections.engine, most).count(None)[0]

    # --- composing ---

    @cached_property
    def templates(self) -> TemplateRenderer:
        """The templates, rendered in this process."""
        from mailbatch.infrastructure.templates.renderer import TemplateRenderer

        s = self._settings
        return TemplateRenderer(s.template_dir, s.max_message_bytes, look_again=1.0, options=template_options(s))

    @cached_property
    def compose(self) -> Compose:
        """Makes messages of mails, in this process."""
        return make_compose(self._settings, self.templates, self._connections.stores.files, self.spool)

    @property
    def spool(self) -> Spool:
        """Where contents wait that are too large for memory. Each lane has one, so that its file goes with the lane."""
        from mailbatch.infrastructure.spool import Spool

        return Spool(self._settings.spool_dir)

    # --- the work of a lane ---

    @property
    def send_due(self) -> SendDue:
        """One lane's work in a run."""
        from mailbatch.application.sending.compose_watched import ComposeWatched
        from mailbatch.application.sending.send_due import SendDue
        from mailbatch.infrastructure.system.watchdog import ProcessWatchdog

        s = self._settings
        watchdog, first = ProcessWatchdog(s.database_url), self.connections
        # Its own, so that the files which it has encoded go with it.
        compose = make_compose(s, self.templates, self._connections.stores.files, self.spool)
        send_due = SendDue(
            backlog=self.backlog,
            compose=ComposeWatched(compose, watchdog),
            transport=self.transport,
            clock=self._connections.clock,
            jitter=random.random,
            retry=self.retry,
            on_doubt=s.on_doubt,
            group_size=self.group_size,
            page_size=s.page_size,
            lease=s.lease,
            gates=make_gates(self._connections, self),
            strict=s.strict,
            relay_faults=faults_of(self._first),
            bound=crash_bound(1, first, s.window, strict=s.strict),
            circuit_breaker=self._first.circuit_breaker,
            slots=self.slots,
            watchdog=watchdog,
            urgent=self._urgency,
            allowance=self.allowance_of(self._first),
        )
        if len(self.relays) > 1:
            send_due = replace(send_due, circuit_breaker=None, slots=None, several=self._several)
        return self._traced(send_due)

    @property
    def _urgency(self) -> Urgency | None:
        from mailbatch.application.sending.in_flight_limit import Urgency

        priority = self._settings.urgent_from
        return None if priority is None else Urgency(priority, self.connections * IN_FLIGHT_OF_A_CONNECTION)

    def _traced(self, send_due: SendDue) -> SendDue:
        """Return ``send_due`` with spans around its ports if this process traces."""
        from mailbatch.infrastructure.tracing.enabled import enabled

        if not enabled():
            return send_due
        from mailbatch.infrastructure.db.traces import headers_of
        from mailbatch.infrastructure.tracing.lane import traced
        from mailbatch.infrastructure.tracing.provider import tracer

        return traced(send_due, tracer(), lambda ids: headers_of(self._connections.engine, ids))


def make_compose(settings: Settings, render: Renderer, files: Files, spool: Spool) -> Compose:
    """Return what makes messages of mails, whose templates ``render`` renders."""
    from mailbatch.application.sending.compose import Compose
    from mailbatch.infrastructure.mime.addresses import read_addresses
    from mailbatch.infrastructure.mime.compiled import CompiledWriter
    from mailbatch.infrastructure.mime.finished import FinishedWriter

    return Compose(
        read_addresses=read_addresses,
        render=render,
        enclose=new_enclose(settings, files, spool),
        write=CompiledWriter(),
        write_finished=FinishedWriter(spool.put),
        now=lambda: datetime.now(UTC),
        max_bytes=settings.max_message_bytes,
        sender=settings.sender,
        redirect_all_to=settings.redirect_all_to,
        return_path=return_path(settings),
        auto_submitted=settings.auto_submitted,
    )


def template_options(settings: Settings) -> Options:
    """Return what the settings say about templates beside their folder."""
    from mailbatch.infrastructure.templates.options import NO_LANGUAGE, Options

    return Options(
        locale=settings.locale or NO_LANGUAGE,
        locale_strict=settings.locale_strict,
        html_to_text=settings.html_to_text,
    )


def return_path(settings: Settings) -> ReturnPath | None:
    """Return the envelope sender of mails that name none; None if it is their From."""
    if settings.return_path is None:
        return None
    from mailbatch.domain.return_path import ReturnPath

    secret = settings.return_path_secret
    return ReturnPath(settings.return_path, secret.get_secret_value() if secret else None)


def message_id_domain(sender: str | None) -> str:
    """Return the right side of every Message-ID: the sender's domain.

    It is not this host's name, which recipients need not know and which costs a DNS query.
    """
    from mailbatch.infrastructure.mime.addresses import read_addresses

    return read_addresses(sender)[0].domain if sender else "mailbatch.invalid"


def permit_for_a_while() -> Callable[[], bool]:
    """Return a permit to send that ends after ``WAIT_FOR_SLOT`` seconds."""
    ends = time.monotonic() + WAIT_FOR_SLOT
    return lambda: time.monotonic() < ends
