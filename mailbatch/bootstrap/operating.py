"""Makes the use cases with which people look: watch, explanations, previews, figures; and those that try a mail.

It is one list of about 300 lines: a few lines for each use case.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mailbatch.bootstrap.enclosing import new_mail_files
from mailbatch.bootstrap.gates import make_gate_list
from mailbatch.bootstrap.sending import (
    make_compose,
    message_id_domain,
    permit_for_a_while,
    return_path,
    template_options,
)
from mailbatch.config import PREFIX
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.domain.run import DEAD_AFTER
from mailbatch.infrastructure.system.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailbatch.application.looking.carried import ShowCarried
    from mailbatch.application.looking.explain import Explain
    from mailbatch.application.looking.inquire import JobStatus, ListReservations, ShowReservation, ShowRun
    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.application.looking.metrics import Measure
    from mailbatch.application.looking.plan import PlanRun
    from mailbatch.application.looking.preview import Preview, TrySending
    from mailbatch.application.looking.relays import ShowRelays
    from mailbatch.application.looking.shown_images import ShownImages
    from mailbatch.application.looking.try_template import TryTemplate
    from mailbatch.application.looking.waiting import RenderWaiting
    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.ports.sending import Renderer
    from mailbatch.application.sending.compose import Compose
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.sending import Sending
    from mailbatch.domain.health import Patience
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.templates.preflight import Preflight
    from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer
    from mailbatch.infrastructure.templates.template_folder import TemplateFolder

RENDERING = 10.0
"""Seconds of wall-clock time that rendering one mail may take."""
UNANSWERED = 25.0
"""Seconds for which a run may get no reply to any mail. The watch looks every 30 s, so it reports within a minute."""


class Operating:
    """Makes the use cases of people who look, for one process.

    ``…_apart`` renders in a process that can be killed: for servers, and for templates that others wrote. Commands may
    render in their own process.
    """

    def __init__(self, connections: Connections, sending: Sending) -> None:
        self._connections = connections
        self._settings = connections.settings
        self._sending = sending

    def watch(self, job: str, *, lock: bool = True) -> Watch:
        """Return what looks at ``job`` from outside of its runs; without ``lock`` it does not ask Redis."""
        from mailbatch.application.looking.watch import Watch

        stores = self._connections.stores
        first, *others = (relay.name for relay in self._sending.relays)
        return Watch(
            health_query=stores.health,
            runs=stores.runs,
            pause_store=stores.pauses,
            lock_observer=self._connections.lock(job) if lock else None,
            circuits=stores.circuits,
            relay=first,
            other_relays=others,
            patience=self._patience,
            remaining=self._remaining,
            sends=job == SEND_ALL,
        )

    def _remaining(self) -> int:
        # A bound method would make the backlog at once, and most looks do not need it.
        return self._sending.backlog.remaining()

    def _patience(self) -> Patience:
        from mailbatch.application.looking.next_run import GRACE
        from mailbatch.domain.health import Patience
        from mailbatch.infrastructure.cron import back

        now, s = datetime.now(UTC), self._settings
        return Patience(
            quiet=(now - back(s.when, now, 2)).total_seconds() + GRACE,
            dead_after=DEAD_AFTER,
            lock_ttl=s.lock_ttl,
            lease=s.lease,
            unanswered=UNANSWERED,
        )

    @property
    def show_run(self) -> ShowRun:
        """Reads one run and its errors."""
        from mailbatch.application.looking.inquire import ShowRun

        return ShowRun(self._connections.stores.reports)

    def job_status(self, job: str) -> JobStatus:
        """Return how ``job`` and its backlog stand now, with Redis or without. Raises ``StoreError``."""
        from mailbatch.application.looking.inquire import ShowJobStatus

        connections = self._connections
        stores = connections.stores
        show = ShowJobStatus(
            reports=stores.reports, board=connections.status_board, watch=self.watch(job), blocks=stores.blocks
        )
        return show(job)

    @property
    def show_relays(self) -> ShowRelays:
        """Shows how each relay stands."""
        from mailbatch.application.looking.relays import ShowRelays

        return ShowRelays(
            circuits=self._connections.stores.circuits,
            totals={relay.name: relay.total_connections for relay in self._sending.relays},
            count=self._sending.relay_connections,
        )

    @cached_property
    def measure(self) -> Measure:
        """The figures for a monitoring system."""
        from mailbatch.application.looking.metrics import Measure

        stores, watch = self._connections.stores, self.watch(SEND_ALL, lock=False)
        return Measure(stores.reports, stores.measures, lambda: watch.unanswered(SEND_ALL))

    @cached_property
    def subprocess_renderer(self) -> SubprocessRenderer:
        """Renders mails in processes that can be killed."""
        return self.new_subprocess_renderer(RENDERING)

    def new_subprocess_renderer(self, seconds: float) -> SubprocessRenderer:
        """Return a renderer of your own, which gives each mail so many seconds. Close it."""
        from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer

        s = self._settings
        return SubprocessRenderer(s.template_dir, s.max_message_bytes, seconds, template_options(s))

    @property
    def preflight(self) -> Preflight:
        """Checks the templates. Raises ``SettingsError`` if there is no folder of templates."""
        from mailbatch.infrastructure.templates.preflight import Preflight

        s = self._settings
        if s.template_dir is None:
            raise SettingsError(f"there is no template directory; set {PREFIX}TEMPLATE_DIR")
        return Preflight(s.template_dir, s.max_message_bytes, template_options(s))

    @cached_property
    def template_folder(self) -> TemplateFolder | None:
        """The templates, for people to look at; None if there is no folder of templates. Checks them apart."""
        from mailbatch.infrastructure.templates.template_folder import TemplateFolder

        if (folder := self._settings.template_dir) is None:
            return None
        return TemplateFolder(folder, self.preflight, self.subprocess_renderer.preflight)

    @property
    def compose_apart(self) -> Compose:
        """Makes messages of mails that are only looked at, in one thread."""
        return self._compose_apart(self.subprocess_renderer)

    def _compose_apart(self, render: Renderer) -> Compose:
        from mailbatch.infrastructure.spool import Spool

        s = self._settings
        return make_compose(s, render, self._connections.stores.files, Spool(s.spool_dir))

    @property
    def explain(self) -> Explain:
        """Says why a reservation has not been sent yet, or what became of it."""
        from mailbatch.application.looking.explain import Explain

        stores = self._connections.stores
        return Explain(
            reservations=stores.reservations,
            reports=stores.reports,
            upcoming=stores.upcoming,
            watch=self.watch(SEND_ALL),
            compose=self.compose_apart,
            carried=self.show_carried.facts,
            urgent_from=self._settings.urgent_from,
            gates=make_gate_list(self._connections, self._sending),
        )

    @property
    def preview(self) -> Preview:
        """Renders mails for people to look at."""
        return self._preview(self.subprocess_renderer)

    @contextmanager
    def render_waiting(self, seconds: float) -> Iterator[RenderWaiting]:
        """Yield what renders the waiting mails, each within so many seconds."""
        from mailbatch.application.looking.waiting import RenderWaiting

        render = self.new_subprocess_renderer(seconds)
        try:
            yield RenderWaiting(render=render, reservations=self._connections.stores.reservations)
        finally:
            render.close()

    def preview_within(self, seconds: float) -> Preview:
        """Return what renders mails for people to look at, each within so many seconds."""
        return self._preview(self.subprocess_renderer.within(seconds))

    @property
    def show_reservation(self) -> ShowReservation:
        """Reads one reservation and its attempts."""
        from mailbatch.application.looking.inquire import ShowReservation

        return ShowReservation(self._connections.stores.reservations)

    def _preview(self, render: Renderer) -> Preview:
        from mailbatch.application.looking.preview import Preview
        from mailbatch.infrastructure.mime.message_view import see_message

        return Preview(render, self._connections.stores.reservations, see_message, self._served_in)

    @property
    def mail_files(self) -> MailFiles:
        """Shows the files of mails, and opens them."""
        return new_mail_files(self._settings, self._connections.stores.files)

    @property
    def show_carried(self) -> ShowCarried:
        """Shows what mails carry beside their text."""
        from mailbatch.application.looking.carried import ShowCarried
        from mailbatch.infrastructure.mime.addresses import read_addresses
        from mailbatch.infrastructure.mime.message_envelope import message_author

        return ShowCarried(
            mail_files=self.mail_files,
            read_addresses=read_addresses,
            return_path=return_path(self._settings),
            sender=self._settings.sender,
            author_of=message_author,
            served_in=self._served_in,
        )

    def _served_in(self, mail: Mail) -> tuple[str, ...]:
        # Other mails need no template engine, and it takes a while to import.
        return self.subprocess_renderer.served_in(mail) if mail.template else ()

    @property
    def list_reservations(self) -> ListReservations:
        """Reads all reservations of a filter, page by page."""
        from mailbatch.application.looking.inquire import ListReservations

        return ListReservations(self._connections.stores.reservations)

    @property
    def plan_run(self) -> PlanRun:
        """Renders what the next run would send."""
        from mailbatch.application.looking.plan import PlanRun

        stores = self._connections.stores
        return PlanRun(
            upcoming=stores.upcoming,
            compose=self.compose_apart,
            reports=stores.reports,
            show_carried=self.show_carried,
            now=lambda: datetime.now(UTC),
            gates=make_gate_list(self._connections, self._sending),
        )

    @property
    def try_sending(self) -> TrySending:
        """Sends one mail past the backlog."""
        return self.try_sending_by(None)

    def try_sending_by(self, relay: str | None) -> TrySending:
        """Return what sends one mail past the backlog, by the relay of this name. Raises ``SettingsError``."""
        return self._try_sending(self.subprocess_renderer, relay)

    @property
    def try_template(self) -> TryTemplate:
        """Sends one mail of a template past the backlog. Raises ``SettingsError`` if there are no templates."""
        from mailbatch.application.looking.try_template import MarkedAsTest, TryTemplate
        from mailbatch.infrastructure.mime.addresses import read_addresses

        return TryTemplate(
            sample=self.preflight.sample,
            read_addresses=read_addresses,
            send=self._try_sending(MarkedAsTest(self.subprocess_renderer)),
        )

    @property
    def shown_images(self) -> ShownImages:
        """Reads the images of templates for previews."""
        from mailbatch.application.looking.shown_images import ShownImages
        from mailbatch.infrastructure.files.folder import FilesBelow

        return ShownImages(FilesBelow(self._settings.template_dir, "image of a template"))

    def _try_sending(self, render: Renderer, relay: str | None = None) -> TrySending:
        from mailbatch.application.looking.preview import TrySending

        domain = message_id_domain(self._settings.sender)
        return TrySending(
            compose=self._compose_apart(render),
            transport=self._sending.single_transport(relay),
            permit=permit_for_a_while(),
            new_id=new_id,
            message_id=lambda own: f"<{own}@{domain}>",
        )

    def close(self) -> None:
        """End the processes that render."""
        if "subprocess_renderer" in self.__dict__:
            self.subprocess_renderer.close()
