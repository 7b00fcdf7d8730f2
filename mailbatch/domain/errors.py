"""What can go wrong, said in one line: what, where, and what to do about it."""

from __future__ import annotations


class MailbatchError(Exception):
    """The root of every error that mailbatch raises on purpose; its text is fit for a person."""


class SettingsError(MailbatchError):
    """A setting is missing or wrong; the text names the variable, its value (secrets masked) and what is allowed."""


class InvalidReservation(MailbatchError):
    """A reservation that could never be sent as it stands.

    ``problems`` holds one line for each thing that is wrong, each naming its field.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyConflict(MailbatchError):
    """An idempotency key was used before, for a reservation with other content."""


class NotFound(MailbatchError):
    """No such reservation or run."""


class Busy(MailbatchError):
    """Too many others ask for the same at this moment; it is worth asking again soon."""


class StateConflict(MailbatchError):
    """What was asked does not fit the state in which the reservation is (a cancel that comes too late, say)."""


class CannotCompose(MailbatchError):
    """A mail that cannot be made into a message: its own fault, never the run's.

    ``errors`` holds one line for each thing that is wrong.
    """

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


class StoreError(MailbatchError):
    """The database refused or could not be reached.

    ``transient`` tells whether the same statement may succeed later (a lost connection, a lock timeout, a full disk).
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class NotMigrated(MailbatchError):
    """The database's schema is not the one this version works with; the text says what to run."""


class LockUnavailable(MailbatchError):
    """Redis could not be asked for the lock: it is away, or it refuses us."""


class RunFailed(MailbatchError):
    """A run cannot go on; its report says why. What it did before is kept, and the next run takes up the rest."""


class JobExecError(MailbatchError):
    """The job itself broke. Its text begins with ``[JOB EXEC ERROR]``."""

    def __init__(self, what: str) -> None:
        super().__init__(what if what.startswith("[JOB EXEC ERROR]") else f"[JOB EXEC ERROR] {what}")


class CallRefused(JobExecError):
    """A call that this worker does not take: for another database, or with a trigger that is none. Nothing was done."""


class NotDelivered(Exception):
    """A report did not arrive; the text says why, without any secret. ``final``: asking again is of no use."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final
