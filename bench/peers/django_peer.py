"""Sets up and runs django-post_office and django-mailer as their users do, in .venv-bench."""

# ruff: noqa: E402 - a script in another venv must set its path first

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parent)
sys.path.insert(1, str(Path(__file__).parents[1]))

import corpus
import django
from django.conf import settings
from turn import take_turn


def configure(asked: dict[str, Any]) -> None:
    """Configure the smallest possible Django."""
    settings.configure(
        SECRET_KEY="bench",  # noqa: S106 - nothing is signed
        USE_TZ=True,
        INSTALLED_APPS=["post_office", "mailer"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": asked["host"],
                "NAME": asked["database"],
                "USER": asked["user"],
            }
        },
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=asked["port"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        POST_OFFICE={
            "BATCH_SIZE": asked.get("batch", 100),
            "THREADS_PER_PROCESS": asked.get("threads", 5),
            "BATCH_DELIVERY_TIMEOUT": 3600,
            "BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"},
        },
        MAILER_LOCK_PATH=asked["lock"],
        LOGGING_CONFIG=None,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def post_office(asked: dict[str, Any]) -> None:
    """Stores a template and renders it at delivery; sends by the management command that its manual puts into cron."""
    from django.core.management import call_command
    from django.db import connection
    from post_office.models import PRIORITY, STATUS, Email, EmailTemplate

    template = EmailTemplate.objects.create(
        name="notice",
        subject=corpus.part("subject.txt").strip(),
        content=corpus.part("body.txt"),
        html_content=corpus.part("body.html"),
    )
    Email.objects.bulk_create(
        [
            Email(
                from_email=corpus.SENDER,
                to=[to],
                template=template,
                context=context,
                status=STATUS.queued,
                priority=PRIORITY.medium,
            )
            for to, context in corpus.contexts(asked["mails"])
        ],
        batch_size=1000,
    )
    tidy(connection)
    # Its own default log level: a row for each delivery, as mailbatch stores each reply of the relay.
    take_turn(lambda: call_command("send_queued_mail", processes=asked.get("processes", 1), lockfile=asked["lock"]))
    sent = Email.objects.filter(status=STATUS.sent).count()
    check(sent, asked["mails"])


def django_mailer(asked: dict[str, Any]) -> None:
    """Stores finished messages, so they are rendered before the measurement."""
    from django.core.mail import EmailMultiAlternatives
    from django.db import connection
    from django.template import Context, Template
    from mailer.engine import send_all
    from mailer.models import Message, MessageLog

    subject, text, html = (Template(corpus.part(p)) for p in ("subject.txt", "body.txt", "body.html"))
    rows = []
    for to, data in corpus.contexts(asked["mails"]):
        message = EmailMultiAlternatives(
            subject.render(Context(data)).strip(), text.render(Context(data)), corpus.SENDER, [to]
        )
        message.attach_alternative(html.render(Context(data)), "text/html")
        row = Message()
        row.email = message
        rows.append(row)
    Message.objects.bulk_create(rows, batch_size=1000)
    del rows
    tidy(connection)
    take_turn(send_all)
    check(MessageLog.objects.filter(result="1").count(), asked["mails"])


def tidy(connection: Any) -> None:
    """Finish the database's background work that the filling caused, as for all senders."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def check(sent: int, mails: int) -> None:
    """Fail if a mail was not sent, because then the figures mean nothing."""
    if sent != mails:
        sys.exit(f"{mails} mails were to be sent, {sent} were")


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    configure(wanted)
    {"django-post_office": post_office, "django-mailer": django_mailer}[wanted["peer"]](wanted)
