"""The simplest loop: page, Jinja2, EmailMessage, one reused smtplib connection, mark page by page."""

# ruff: noqa: E402 - a script in another venv must set its path first

from __future__ import annotations

import json
import smtplib
import sys
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parent)
sys.path.insert(1, str(Path(__file__).parents[1]))

import corpus
import psycopg
from jinja2 import Environment
from turn import take_turn

PAGE = 1000
READ = (
    "SELECT id, recipients, context FROM mail_reservations"
    " WHERE status = 'pending' AND due_at <= now() ORDER BY priority DESC, due_at, id LIMIT %s"
)
MARK = "UPDATE mail_reservations SET status = 'sent', sent_at = now() WHERE id = ANY(%s)"


def send_all(asked: dict[str, Any]) -> int:
    """Return how many mails were sent and marked."""
    plain, escaping = Environment(), Environment(autoescape=True)  # noqa: S701 - a text is not HTML
    subject, text = (plain.from_string(corpus.part(p)) for p in ("subject.txt", "body.txt"))
    html = escaping.from_string(corpus.part("body.html"))
    sent = 0
    with psycopg.connect(asked["url"]) as database, smtplib.SMTP("127.0.0.1", asked["port"]) as smtp:
        while rows := database.execute(READ, [PAGE]).fetchall():
            for _, to, context in rows:
                message = EmailMessage(policy=SMTP)
                message["From"], message["To"] = corpus.SENDER, to
                message["Subject"] = subject.render(context).strip()
                message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain="shop.example")
                message.set_content(text.render(context))
                message.add_alternative(html.render(context), subtype="html")
                smtp.send_message(message)
            database.execute(MARK, [[row[0] for row in rows]])
            database.commit()
            sent += len(rows)
    return sent


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    counted: list[int] = []
    take_turn(lambda: counted.append(send_all(wanted)))
    if counted != [wanted["mails"]]:
        sys.exit(f"{wanted['mails']} mails were to be sent, {counted} were")
