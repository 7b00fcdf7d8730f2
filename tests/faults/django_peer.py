"""django-post_office and django-mailer under the same faults: one action a process, as by cron. In .venv-bench."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "peers"))

import django_peer


def fill(asked: dict[str, Any]) -> None:
    """Queue ``mails`` plain mails; with ``bad``, one whose subject has a line break in it."""
    subjects = [f"mail {i}" for i in range(asked["mails"])]
    if asked.get("bad") is not None:
        subjects[asked["bad"]] = "one line\nand another"
    addressed = [(f"{asked['name']}-{i}@faults.example", subject) for i, subject in enumerate(subjects)]
    {"django-post_office": _fill_post_office, "django-mailer": _fill_mailer}[asked["peer"]](addressed)


def _fill_post_office(addressed: list[tuple[str, str]]) -> None:
    from post_office.models import PRIORITY, STATUS, Email

    Email.objects.bulk_create(
        Email(
            from_email="sender@example.com",
            to=[to],
            subject=subject,
            message="hello",
            status=STATUS.queued,
            priority=PRIORITY.medium,
        )
        for to, subject in addressed
    )


def _fill_mailer(addressed: list[tuple[str, str]]) -> None:
    from django.core.mail import EmailMessage
    from mailer.models import Message

    rows = []
    for to, subject in addressed:
        row = Message()
        row.email = EmailMessage(subject, "hello", "sender@example.com", [to])
        rows.append(row)
    Message.objects.bulk_create(rows)


def send(asked: dict[str, Any]) -> None:
    """One run of the command that its manual puts into cron."""
    from django.core.management import call_command

    if asked["peer"] == "django-post_office":
        call_command("send_queued_mail", processes=1, lockfile=asked["lock"])
    else:
        # What it has deferred waits for this one.
        call_command("retry_deferred")
        call_command("send_mail")


def count(asked: dict[str, Any]) -> None:
    """Say what its tables say."""
    if asked["peer"] == "django-post_office":
        from post_office.models import STATUS, Email

        names = {STATUS.sent: "sent", STATUS.failed: "failed", STATUS.queued: "queued", STATUS.requeued: "queued"}
        stands = {email.to[0]: names[email.status] for email in Email.objects.all()}
    else:
        from mailer.models import Message, MessageLog

        stands = {to: "sent" for log in MessageLog.objects.filter(result="1") for to in log.to_addresses}
        stands |= {to: "queued" for message in Message.objects.all() for to in message.to_addresses}
    print(json.dumps(stands))  # noqa: T201 - this is its answer


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    django_peer.configure(wanted)
    {"fill": fill, "send": send, "count": count}[wanted["do"]](wanted)
