"""Errors. The text of each is one line: what happened, where, and what to do about it."""

from __future__ import annotations


class MailbatchError(Exception):
    """The base of every error that mailbatch raises on purpose. Its text is written for people."""


class SettingsError(MailbatchError):
    """A setting is missing or wrong; the text names the variable, its value (secrets masked) and what is allowed."""


class InvalidReservation(MailbatchError):
    """The reservation cannot be sent with these values.

    ``problems``: one line for each, beginning with the name of its field.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyConflict(MailbatchError):
    """The idempotency key was used before, for a reservation with other content."""


class NotFound(MailbatchError):
    """No such reservation or run."""


class Busy(MailbatchError):
    """Too many requests for the same at this moment. The caller can try again soon."""


class StateConflict(MailbatchError):
    """The reservation's state does not allow the request: a cancel that comes too late, for example."""


class CannotCompose(MailbatchError):
    """The mail cannot be composed. Only this mail fails; the run goes on.

    ``errors``: one line for each problem.
    """

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class ContentUnavailable(CannotCompose):
    """A content of the mail cannot be stored or read at this moment. Only this mail waits, and is tried again later."""


class ResourceAway(ContentUnavailable):
    """Something that all mails share cannot be used now: a folder, the temporary file, a limit of this machine.

    It is no mail's fault. The mail waits and loses no attempt; the run ends as failed, after all other mails.
    """


class StoreError(MailbatchError):
    """The database refused or could not be reached.

    ``transient``: the same statement may succeed later (after a lost connection, a lock timeout, a full disk).
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class NotMigrated(MailbatchError):
    """The database's schema does not fit this version. The text says which command to run."""


class LockUnavailable(MailbatchError):
    """The lock cannot be used: Redis is not reachable, or it refuses the command."""


class RunFailed(MailbatchError):
    """The run cannot go on; its report says why. Settled mails stay settled, and the next run sends the rest."""


class JobExecError(MailbatchError):
    """The job itself failed. The text begins with ``[JOB EXEC ERROR]``."""

    def __init__(self, what: str) -> None:
        super().__init__(what if what.startswith("[JOB EXEC ERROR]") else f"[JOB EXEC ERROR] {what}")


class CallRefused(JobExecError):
    """The worker refuses the call: it is for another database, or its trigger is unknown. Nothing was done."""


class NotDelivered(Exception):
    """A report was not delivered; the text says why, without secrets. ``final``: another try cannot succeed."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final
