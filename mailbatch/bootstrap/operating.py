"""Makes the use cases with which people look and act: watch, explanations, previews, figures, new reservations.

Above 300 lines because it is one list: a few lines for each use case.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mailbatch.bootstrap.enclosing import file_rules, new_mail_files
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
from mailbatch.domain.template_check import missing_image
from mailbatch.infrastructure.system.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailbatch.application.acting.importing import Import
    from mailbatch.application.acting.message_records import MessageRecords
    from mailbatch.application.acting.reserve import CheckDraft, Reserve, ReserveMany
    from mailbatch.application.acting.store_file import StoreFile
    from mailbatch.application.looking.carried import ShowCarried
    from mailbatch.application.looking.explain import Explain
    from mailbatch.application.looking.inquire import JobStatus, ListReservations, ShowReservation, ShowRun
    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.application.looking.metrics import Measure
    from mailbatch.application.looking.plan import PlanRun
    from mailbatch.application.looking.preview import Preview, TrySending
    from mailbatch.application.looking.shown_images import ShownImages
    from mailbatch.application.looking.try_template import TryTemplate
    from mailbatch.application.looking.waiting import RenderWaiting
    from mailbatch.application.looking.watch import Watch
    from mailbatch.application.ports.sending import Renderer
    from mailbatch.application.ports.stores import Intake
    from mailbatch.application.sending.compose import Compose
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.sending import Sending
    from mailbatch.domain.health import Patience
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.templates.preflight import Preflight
    from mailbatch.infrastructure.templates.renderer import TemplateRenderer
    from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer
    from mailbatch.infrastructure.templates.template_folder import TemplateFolder

RENDERING = 10.0
"""Seconds of wall-clock time that rendering one mail may take."""
UNANSWERED = 25.0
"""Seconds for which a run may get no reply to any mail. The watch looks every 30 s, so it reports within a minute."""


class Operating:
    """Makes the use cases of operators, for one process.

    ``…_apart`` renders in a process that can be killed: for servers, and for templates that others wrote. Commands may
    render in their own process.
    """

    def __init__(self, connections: Connections, sending: Sending) -> None:
        self._connections = connections
        self._settings = connections.settings
        self._sending = sending

    # --- runs ---

    def watch(self, job: str, *, lock: bool = True) -> Watch:
        """Return what looks at ``job`` from outside of its runs; without ``lock`` it does not ask Redis."""
        from mailbatch.application.looking.watch import Watch

        stores = self._connections.stores
        return Watch(
            health_query=stores.health,
            runs=stores.runs,
            pause_store=stores.pauses,
            lock_observer=self._connections.lock(job) if lock else None,
            circuits=stores.circuits,
            relay=self._sending.relay.name,
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
        show = ShowJobStatus(reports=connections.stores.reports, board=connections.status_board, watch=self.watch(job))
        return show(job)

    @cached_property
    def measure(self) -> Measure:
        """The figures for a monitoring system."""
        from mailbatch.application.looking.metrics import Measure

        stores, watch = self._connections.stores, self.watch(SEND_ALL, lock=False)
        return Measure(stores.reports, stores.measures, lambda: watch.unanswered(SEND_ALL))

    # --- mails ---

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
        )

    @property
    def try_sending(self) -> TrySending:
        """Sends one mail past the backlog."""
        return self._try_sending(self.subprocess_renderer)

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

    def _try_sending(self, render: Renderer) -> TrySending:
        from mailbatch.application.looking.preview import TrySending

        domain = message_id_domain(self._settings.sender)
        return TrySending(
            compose=self._compose_apart(render),
            transport=self._sending.transport,
            permit=permit_for_a_while(),
            new_id=new_id,
            message_id=lambda own: f"<{own}@{domain}>",
        )

    # --- new reservations ---

    @cached_property
    def check_draft(self) -> CheckDraft:
        """Makes reservations of drafts. Compiles templates in this process: for commands."""
        return self._check_draft(self._source_problems)

    @cached_property
    def check_draft_apart(self) -> CheckDraft:
        """Makes reservations of drafts. Compiles templates in a process that can be killed: for servers."""
        return self._check_draft(self.subprocess_renderer.problems)

    def import_mails(self, below: Path) -> Import:
        """Return what reserves the mails of a file, whose paths are those of files ``below`` a folder: for commands."""
        from mailbatch.application.acting.imported_files import ImportedFiles
        from mailbatch.application.acting.importing import Import
        from mailbatch.infrastructure.files.folder import FilesBelow

        return Import(
            check=self.check_draft,
            reservations=self._connections.stores.reservations,
            files=ImportedFiles(folder=FilesBelow(below), max_bytes=self._settings.max_message_bytes),
        )

    def message_records(self, **given: Any) -> MessageRecords:
        """Return what reads finished messages; ``given``: the fields of all their reservations."""
        from mailbatch.application.acting.message_records import MessageRecords
        from mailbatch.infrastructure.mime.message_envelope import message_envelope

        return MessageRecords(read_envelope=message_envelope, largest=self._settings.max_message_bytes, **given)

    def reserve_in(self, intake: Intake) -> Reserve:
        """Return what reserves one mail in the transaction of ``intake``: for servers."""
        from mailbatch.application.acting.reserve import Reserve

        return Reserve(check=self.check_draft_apart, intake=intake)

    @property
    def reserve_many(self) -> ReserveMany:
        """Reserves the mails of one request: for servers."""
        from mailbatch.application.acting.reserve import ReserveMany

        return ReserveMany(check=self.check_draft_apart, reservations=self._connections.stores.reservations)

    @property
    def store_file(self) -> StoreFile:
        """Stores a file that mails may name."""
        from mailbatch.application.acting.store_file import StoreFile

        stores = self._connections.stores
        return StoreFile(reservations=stores.reservations, files=stores.files, rules=file_rules(self._settings))

    def _check_draft(self, source_problems: Callable[[Mail], list[str]]) -> CheckDraft:
        from mailbatch.application.acting.reserve import CheckDraft
        from mailbatch.infrastructure.mime.addresses import read_addresses
        from mailbatch.infrastructure.mime.fields import unwritable
        from mailbatch.infrastructure.mime.finished import message_problem

        return CheckDraft(
            new_id=new_id,
            read_addresses=read_addresses,
            unwritable_headers=unwritable,
            check_message=message_problem,
            file_rules=file_rules(self._settings),
            max_message_bytes=self._settings.max_message_bytes,
            source_problems=source_problems,
        )

    def _source_problems(self, mail: Mail) -> list[str]:
        # Most mails need no template engine, and it takes a while to import.
        if mail.template is None and not any(s and "{" in s for s in (mail.subject, mail.body_text, mail.body_html)):
            return []
        return self._sending.templates.problems(mail)

    def template_warning(self, mail: Mail) -> str | None:
        """Return a warning about the template of ``mail``, else None: for commands.

        The template is not checked here, or its HTML shows images that neither it nor the mail has.
        """
        return self._template_warning(mail, lambda: self._sending.templates)

    def template_warning_apart(self, mail: Mail) -> str | None:
        """Return as ``template_warning``, but look at templates in a process that can be killed: for servers."""
        return self._template_warning(mail, lambda: self.subprocess_renderer)

    def _template_warning(
        self, mail: Mail, templates: Callable[[], TemplateRenderer | SubprocessRenderer]
    ) -> str | None:
        if not mail.template:
            return None
        if self._settings.template_dir is None:
            return (
                f"template {mail.template}: is not checked, because {PREFIX}TEMPLATE_DIR is not set here; "
                "the worker must have it"
            )
        return missing_image(templates().missing_images(mail), mail.attachments)

    def close(self) -> None:
        """End the processes that render."""
        if "subprocess_renderer" in self.__dict__:
            self.subprocess_renderer.close()
