"""``mailbatch duplicates``: who may have got a mail twice."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from support.backlogs import database

from mailbatch.infrastructure.db.tables import mail_attempts, mail_reservations
from mailbatch.interfaces.cli.main import run


def now():
    return datetime.now(UTC)


@pytest.fixture
def sent_after_doubt(database_url, monkeypatch):
    """A mail that went out again two hours after a try without a verdict, and one that an operator took for sent."""
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", database_url)
    twice, once = uuid4(), uuid4()
    with database(database_url) as connection:
        for own, claims in ((twice, 2), (once, 1)):
            mail = {"id": own, "recipients": "ann@example.org", "subject": "x", "body_text": "x", "message_id": "<m@x>"}
            ended = {"status": "sent", "sent_at": now(), "finished_at": now(), "claim_no": claims}
            connection.execute(sa.insert(mail_reservations).values(**mail, **ended))
            doubt = {
                "reservation_id": own,
                "claim_no": 1,
                "outcome": "in_doubt",
                "ended_at": now() - timedelta(hours=2),
            }
            connection.execute(sa.insert(mail_attempts).values(**doubt))
    return twice


def test_a_mail_that_went_out_again_after_a_doubt_is_named_and_no_other(sent_after_doubt, capsys):
    assert run(["duplicates", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["reservation_id"], row["message_id"]) == (str(sent_after_doubt), "<m@x>")
    assert run(["duplicates", "--since", "1h"]) == 0
    assert "nobody, since" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["in_doubt", "pending", "failed"])
def test_a_mail_that_was_in_doubt_more_than_once_is_named_once_whatever_became_of_it(sent_after_doubt, capsys, status):
    database_url, mail = os.environ["MAILBATCH_DATABASE_URL"], uuid4()
    with database(database_url) as connection:
        row = {"id": mail, "recipients": "bob@example.org", "subject": "x", "body_text": "x", "status": status}
        connection.execute(sa.insert(mail_reservations).values(claim_no=3, **row))
        for claim_no, hours in ((1, 5), (2, 3), (3, 1)):
            tried = {"reservation_id": mail, "claim_no": claim_no, "ended_at": now() - timedelta(hours=hours)}
            connection.execute(sa.insert(mail_attempts).values(outcome="in_doubt", **tried))
    assert run(["duplicates", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["reservation_id"] for row in rows] == [str(sent_after_doubt), str(mail)]
    assert rows[1]["doubt_at"] < rows[1]["sent_at"]


def test_a_mail_that_one_of_two_took_after_a_doubt_is_named(sent_after_doubt, capsys):
    database_url, mail = os.environ["MAILBATCH_DATABASE_URL"], uuid4()
    took = {"bob@example.org": {"kind": "accepted", "code": 250, "text": "ok"}}
    with database(database_url) as connection:
        row = {"id": mail, "recipients": "bob@example.org, no@example.org", "subject": "x", "body_text": "x"}
        connection.execute(sa.insert(mail_reservations).values(claim_no=2, status="failed", verdicts=took, **row))
        connection.execute(sa.insert(mail_attempts).values(reservation_id=mail, claim_no=1, outcome="in_doubt"))
    assert run(["duplicates", "--json"]) == 0
    assert str(mail) in [row["reservation_id"] for row in json.loads(capsys.readouterr().out)]


def test_a_time_that_is_none_is_told_in_a_line(sent_after_doubt, capsys):
    assert run(["duplicates", "--since", "yesterday"]) in {1, 2}
    assert "15m, 1h, 2d" in capsys.readouterr().err


def test_the_earlier_name_of_the_command_still_works_and_says_so_on_stderr(sent_after_doubt, capsys):
    assert run(["duplicates", "--json"]) == 0
    new = capsys.readouterr()
    assert run(["twice", "--json"]) == 0
    old = capsys.readouterr()
    assert (old.out, new.err) == (new.out, "")
    assert old.err == "mailbatch: warning: `twice` is now called `duplicates`; the old name will be removed\n"
