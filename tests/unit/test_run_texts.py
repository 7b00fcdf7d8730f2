"""The texts of a run, to the letter: users grep for them."""

from __future__ import annotations

from uuid import UUID

from mailbatch.domain.errors import JobExecError
from mailbatch.domain.redaction.addresses import mask_addresses, public
from mailbatch.domain.run import Counts, ItemError, RunOutcome, RunReport, Trigger, crash_bound

ID = UUID("01920000-0000-7000-8000-000000000001")


def test_an_item_error_reads_as_the_contract_says():
    error = ItemError(12, ID, ("550 5.1.1 no such user", "451 later"))
    assert error.text() == f"[error]Index:12,ReservationID:{ID},Errors:[550 5.1.1 no such user 451 later]"


def test_line_breaks_in_an_error_are_escaped():
    assert "Errors:[a\\r\\nb\\u2028c]" in ItemError(1, ID, ("a\r\nb\u2028c",)).text()


def test_a_broken_job_is_marked_once():
    assert str(JobExecError("boom")) == "[JOB EXEC ERROR] boom"
    assert str(JobExecError("[JOB EXEC ERROR] boom")) == "[JOB EXEC ERROR] boom"


def test_addresses_are_masked_in_whatever_form_a_relay_writes_them():
    text = '<ann@example.org>: "odd name"@example.net jürgen@bücher.example no@[192.0.2.1]'
    masked = mask_addresses(text)
    assert masked == "<***@example.org>: ***@example.net ***@bücher.example ***@[192.0.2.1]"


def test_what_is_no_address_is_hidden_whole():
    text = 'subject is missing recipients: "Ann Lee <ann@@example.org>" is no address: no more; ann@'
    assert mask_addresses(text) == 'subject is missing recipients: "***" is no address: no more; ***@'


def test_a_public_error_has_300_bytes_at_most_and_no_half_character():
    cut = public("é" * 400)
    assert len(cut.encode()) <= 300
    assert cut.endswith("…")


def test_a_report_carries_the_first_100_errors():
    report = RunReport(
        run_id=ID,
        trigger=Trigger.BEAT,
        outcome=RunOutcome.COMPLETED,
        counts=Counts(sent=1),
        errors=[f"e{i} ann@example.org" for i in range(150)],
    ).as_dict()
    assert len(report["errors"]) == 100
    assert report["errors"][99] == "e99 ***@example.org"
    assert list(report) == [
        "run_id", "trigger", "outcome", "sent", "failed", "deferred", "in_doubt", "expired", "held_back",
        "remaining", "duration", "bound", "errors",
    ]  # fmt: skip


def test_the_bound_is_a_group_on_the_wire_and_a_group_ahead_for_each_lane():
    assert crash_bound(2, 4, 32) == 512
    assert crash_bound(2, 4, 1, strict=True) == 8
