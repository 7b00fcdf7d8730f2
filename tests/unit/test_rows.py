"""Rows have the columns of their tables, and their values have types."""

from __future__ import annotations

import pytest
from support.rows import reservation_row, run_row

from mailbatch.domain.reservation import Status
from mailbatch.domain.rows import (
    ActionPlace,
    ActionRow,
    AttemptRow,
    LaneRow,
    ReservationContext,
    ReservationPlace,
    ReservationRow,
    ReservationSummary,
    RunPlace,
    RunRow,
    as_dict,
    names_of,
)
from mailbatch.domain.run import RunOutcome
from mailbatch.infrastructure.db.tables import (
    batch_lanes,
    batch_runs,
    mail_attempts,
    mail_reservations,
    operator_actions,
)
from mailbatch.interfaces.http import reservation_schemas as schemas


@pytest.mark.parametrize(
    ("kind", "table"), [(ReservationRow, mail_reservations), (AttemptRow, mail_attempts), (ActionRow, operator_actions)]
)
def test_a_whole_row_has_every_column_of_its_table(kind, table):
    assert sorted(names_of(kind)) == sorted(table.c.keys())


def test_a_run_has_every_column_and_the_time_for_which_it_is_silent():
    assert names_of(RunRow) == (*batch_runs.c.keys(), "silent")


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (ReservationSummary, mail_reservations),
        (ReservationContext, mail_reservations),
        (ReservationPlace, mail_reservations),
        (RunPlace, batch_runs),
        (ActionPlace, operator_actions),
        (LaneRow, batch_lanes),
    ],
)
def test_a_row_that_is_read_in_part_names_columns_of_its_table(kind, table):
    named = {name.removeprefix("has_") for name in names_of(kind)}
    assert named <= set(table.c.keys())


def test_what_a_list_shows_is_what_the_api_promises():
    assert names_of(ReservationSummary) == tuple(schemas.Listed.model_fields)


def test_a_text_of_an_enum_is_read_as_its_member_and_other_columns_are_passed_over():
    found = {**as_dict(run_row()), "trigger": "api", "outcome": "completed", "more": 1}
    assert RunRow.from_row(found).outcome is RunOutcome.COMPLETED
    assert RunRow.from_row({**found, "outcome": None}).outcome is None
    assert ReservationRow.from_row({**as_dict(reservation_row()), "status": "sent"}).status is Status.SENT


def test_a_row_is_read_back_from_what_it_holds():
    row = reservation_row(context={"a": [1]})
    assert ReservationRow.from_row(as_dict(row)) == row
    assert as_dict(row)["context"] is row.context


def test_a_mail_that_nobody_has_claimed_is_composed_under_a_message_id_that_nobody_sends():
    row = reservation_row()
    assert row.as_claimed(1, {}).message_id == f"<{row.id}@mailbatch.invalid>"
    assert row.as_claimed(1, {}).mail == row.mail
    assert reservation_row(message_id="<own@x>").as_claimed(1, {}).message_id == "<own@x>"
