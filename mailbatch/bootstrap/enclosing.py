"""Makes the parts that load the files of mails, and those that show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.application.ports.stores import Files
    from mailbatch.application.sending.enclose import Enclose
    from mailbatch.config import Settings
    from mailbatch.domain.file_rules import FileRules
    from mailbatch.infrastructure.spool import Spool


def new_enclose(settings: Settings, files: Files, spool: Spool) -> Enclose:
    """Return what loads the files of mails. It keeps what it has encoded, so make one for each lane of a run."""
    from mailbatch.application.sending.enclose import Enclose
    from mailbatch.infrastructure.files.folder import FilesBelow
    from mailbatch.infrastructure.mime.bodies import encoded_file

    return Enclose(
        folder=FilesBelow(settings.attachment_dir),
        templates=FilesBelow(settings.template_dir, "image of a template"),
        files=files,
        encode=lambda pieces: spool.put(encoded_file(pieces)),
        max_bytes=settings.max_message_bytes,
        rules=file_rules(settings),
    )


def new_mail_files(settings: Settings, files: Files) -> MailFiles:
    """Return what shows the files of mails to people."""
    from mailbatch.application.looking.mail_files import MailFiles
    from mailbatch.infrastructure.files.folder import FilesBelow

    return MailFiles(
        files=files,
        folder=FilesBelow(settings.attachment_dir),
        templates=FilesBelow(settings.template_dir, "image of a template"),
        rules=file_rules(settings),
        max_bytes=settings.max_message_bytes,
    )


def file_rules(settings: Settings) -> FileRules:
    """Return what the settings say about files of mails."""
    from mailbatch.domain.file_rules import FileRules

    return FileRules(
        max_inline_bytes=settings.max_inline_bytes,
        refused=settings.refused_patterns,
        has_folder=settings.attachment_dir is not None,
    )
