"""Errors of the database: which may pass, and what to do about the others."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from mailbatch.infrastructure.db.driver_errors import describe, is_transient


class Refused(Exception):
    """An error of the driver."""

    def __init__(self, text: str = "refused", sqlstate: str | None = None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


def operational(text: str = "refused", state: str | None = None, *, lost: bool = False) -> exc.OperationalError:
    return exc.OperationalError("SELECT 1", {}, Refused(text, state), connection_invalidated=lost)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (operational(state="40001"), True),
        (operational(state="57P01"), True),
        (operational(state="08006"), True),
        (operational(state="42501"), False),
        (operational(state="23505"), False),
        (operational(), True),
        (operational("no such table: mail_reservations"), False),
        (operational("no such table: mail_reservations", lost=True), True),
        (exc.ProgrammingError("SELECT 1", {}, Refused()), False),
        (exc.InterfaceError("SELECT 1", {}, Refused()), True),
    ],
)
def test_what_may_succeed_later_is_told_from_what_somebody_must_mend(error, passes):
    assert is_transient(error) is passes


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("42501", "`mailbatch grants` prints what each role needs"),
        ("42P01", "run `mailbatch migrate`"),
        ("25006", "MAILBATCH_DATABASE_URL must lead to the primary"),
        ("26000", "prepare_threshold=none"),
        ("42P05", "prepare_threshold=none"),
        ("42P07", "MAILBATCH_DATABASE_SCHEMA"),
        ("55P03", "try again later"),
        ("3F000", "set MAILBATCH_DATABASE_SCHEMA"),
    ],
)
def test_an_error_says_in_one_line_which_database_what_it_said_and_what_to_do(state, advice):
    line = describe(operational("\n permission denied\nLINE 1", state), sa.create_engine("sqlite:///mail.db"))
    assert line.startswith("database ")
    assert "mail.db: permission denied; " in line
    assert advice in line
    assert "\n" not in line
