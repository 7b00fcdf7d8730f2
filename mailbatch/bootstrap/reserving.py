"""Makes the use cases that store new reservations and their files: one mail, many, and imports."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from mailbatch.bootstrap.enclosing import file_rules
from mailbatch.config import PREFIX
from mailbatch.domain.template_check import missing_image
from mailbatch.infrastructure.system.clock import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailbatch.application.acting.importing import Import
    from mailbatch.application.acting.message_records import MessageRecords
    from mailbatch.application.acting.reserve import CheckDraft, Reserve, ReserveMany
    from mailbatch.application.acting.store_file import StoreFile
    from mailbatch.application.ports.stores import Intake
    from mailbatch.bootstrap.connections import Connections
    from mailbatch.bootstrap.sending import Sending
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.templates.renderer import TemplateRenderer
    from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer


class Reserving:
    """Makes the use cases that reserve, for one process.

    ``…_apart`` compiles templates in a process that can be killed, which ``renderer_apart`` returns: for servers, and
    for templates that others wrote. Commands may do it in their own process.
    """

    def __init__(
        self, connections: Connections, sending: Sending, renderer_apart: Callable[[], SubprocessRenderer]
    ) -> None:
        self._connections = connections
        self._settings = connections.settings
        self._sending = sending
        self._renderer_apart = renderer_apart

    @cached_property
    def check_draft(self) -> CheckDraft:
        """Makes reservations of drafts. Compiles templates in this process: for commands."""
        return self._check_draft(self._source_problems)

    @cached_property
    def check_draft_apart(self) -> CheckDraft:
        """Makes reservations of drafts. Compiles templates in a process that can be killed: for servers."""
        return self._check_draft(self._renderer_apart().problems)

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
        """Return what reserves one mail in the transaction of ``intake``: for commands."""
        from mailbatch.application.acting.reserve import Reserve

        return Reserve(check=self.check_draft, intake=intake)

    def reserve_apart(self, intake: Intake) -> Reserve:
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
        return self._template_warning(mail, self._renderer_apart)

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
