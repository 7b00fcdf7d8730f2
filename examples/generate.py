"""Make the example reservations: 1,000 mails that can be sent and 8 lines that cannot be read.

``python examples/generate.py`` writes ``reservations.csv`` and ``reservations.jsonl`` into its own folder, with the
same bytes each time. ``--times 10 --out DIR`` makes ten times as many mails. Standard library only.
"""

# ruff: noqa: INP001  # a script, not a package

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent

CSV_MAILS, CSV_BAD = 600, 4
JSONL_MAILS, JSONL_BAD = 400, 4
REFUSED, DEFERRED, UTF8_LOCAL = 12, 8, 5
"""How many recipients the demo's inbox refuses and defers, and how many need SMTPUTF8 (RFC 6531)."""

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
"""The files do not depend on the day on which they are made; all their times are before this one."""

CSV_COLUMNS = (
    *("recipients", "cc", "bcc", "sender", "reply_to", "subject", "body_text", "body_html", "template", "headers"),
    *("scheduled_at", "priority", "idempotency_key", "tag"),
    # From here on: names that the table does not have. They become context.
    *("lang", "dir", "name", "title", "sentence", "place", "hint", "link", "minutes", "city", "interest"),
)


@dataclass(frozen=True)
class Language:
    """A language: its people, their mail domains, and the phrases of the mails."""

    tag: str
    dir: str
    people: list[tuple[str, str]]
    domains: list[str]
    cities: list[str]
    goods: list[str]
    clinic: str
    reminder: str
    reminder_sentence: str
    reminder_hint: str
    ordered: str
    thanks: str
    total: str
    note: str
    note_text: str


def _languages() -> tuple[Language, ...]:
    """Read ``languages.toml``."""
    tables = tomllib.loads((HERE / "languages.toml").read_text(encoding="utf-8"))["language"]
    return tuple(Language(**table) for table in tables)


_UTF8_LOCALS = (
    "josé@example.com",
    "δοκιμή@παράδειγμα.example",
    "иван@почта.example",
    "मोहन@उदाहरण.example",
    "用户@例子.example",
)
_EMOJI = ("🎉 ", "", "📦 ", "", "", "✅ ", "")


def quoted(name: str, address: str) -> str:
    """One mailbox with its display name as a quoted string (RFC 5322 §3.4)."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>'


class Maker:
    """Makes mails of every kind; the same seed makes the same mails."""

    def __init__(self, seed: int, before: int = 0) -> None:
        """Number the mails from ``before`` + 1, so that no two files write to the same address."""
        self._chance = random.Random(seed)  # noqa: S311  # examples, not secrets
        self._languages = cycle(_languages())
        self._number = before

    def _person(self, *, local: str | None = None) -> tuple[Language, str, str]:
        """The next language, a name in it, and a new address."""
        language = next(self._languages)
        self._number += 1
        name, ascii_name = self._chance.choice(language.people)
        domain = self._chance.choice(language.domains)
        return language, name, f"{local or ascii_name}.{self._number}@{domain}"

    def _past(self) -> str | None:
        """Half of the mails have no time; the others were due at some moment of the last three days."""
        if self._chance.random() < 0.5:  # noqa: PLR2004
            return None
        when = NOW - timedelta(minutes=self._chance.randrange(1, 3 * 24 * 60))
        hours = self._chance.choice((0, 0, 1, 5.5, 9, -3))
        local = when + timedelta(hours=hours)
        sign, minutes = ("-" if hours < 0 else "+"), int(abs(hours) * 60)
        zone = "Z" if hours == 0 else f"{sign}{minutes // 60:02}:{minutes % 60:02}"
        return f"{local:%Y-%m-%dT%H:%M:%S}{zone}"

    def _basis(self, kind: str, address: str, name: str, tag: str, priority: int = 0) -> dict[str, Any]:
        """The columns that every kind of mail has."""
        mail: dict[str, Any] = {"recipients": quoted(name, address), "tag": tag}
        mail["idempotency_key"] = f"{kind}-{self._number:06}"
        if priority:
            mail["priority"] = priority
        if when := self._past():
            mail["scheduled_at"] = when
        return mail

    # --- flat context: rows of the CSV ---

    def appointment(self, local: str | None = None) -> dict[str, Any]:
        """A reminder; the application has already translated its phrases."""
        language, name, address = self._person(local=local)
        when = datetime(2026, 12, 1, 9, tzinfo=UTC) + timedelta(minutes=15 * self._chance.randrange(0, 2000))
        shown = f"{when:%d.%m.%Y, %H:%M}" if language.tag in {"de", "pl", "ru", "uk"} else f"{when:%Y-%m-%d %H:%M}"
        return {
            **self._basis("appointment", address, name, "appointments", priority=5),
            "template": "appointment-reminder",
            "reply_to": "desk@example.com",
            "lang": language.tag,
            "dir": language.dir,
            "name": name,
            "title": language.reminder,
            "sentence": language.reminder_sentence.format(when=shown),
            "place": language.clinic,
            "hint": language.reminder_hint,
        }

    def password_reset(self, local: str | None = None) -> dict[str, Any]:
        """A link that is valid for an hour; the most urgent mail."""
        _, name, address = self._person(local=local)
        token = f"{self._chance.getrandbits(96):024x}"
        return {
            **self._basis("reset", address, name, "accounts", priority=10),
            "template": "password-reset",
            "name": name,
            "link": f"https://example.com/reset?user={self._number}&token={token}",
            "minutes": "60",
        }

    def newsletter(self, local: str | None = None) -> dict[str, Any]:
        """The same news for all, with an unsubscribe link in the header (RFC 8058)."""
        language, name, address = self._person(local=local)
        way_out = f"https://news.example.com/out/{self._number:06}"
        unsubscribe = {"List-Unsubscribe": f"<{way_out}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        return {
            **self._basis("news-2026-11", address, name, "newsletter", priority=-5),
            "template": "newsletter",
            "sender": '"The Reading Room" <news@example.com>',
            "headers": unsubscribe,
            "name": name,
            "city": self._chance.choice(language.cities),
            "interest": self._chance.choice(("fiction", "history", "science", "")),
            "link": way_out,
        }

    def note(self, local: str | None = None) -> dict[str, Any]:
        """A short mail with its bodies inline; text that users typed is in the context."""
        language, name, address = self._person(local=local)
        emoji = self._chance.choice(_EMOJI)
        return {
            **self._basis("note", address, name, "notes"),
            "subject": f"{emoji}{language.note}",
            "body_text": "{{ name }},\n\n{{ sentence }}\n\n-- \n{{ city }}\n",
            "body_html": '<p lang="{{ lang }}" dir="{{ dir }}" style="font:16px/1.5 sans-serif;color:#1c2430">'
            "{{ name }},<br><br>{{ sentence }}</p>",
            "lang": language.tag,
            "dir": language.dir,
            "name": name,
            "sentence": language.note_text,
            "city": self._chance.choice(language.cities),
        }

    # --- nested context: lines of the JSONL ---

    def order(self, local: str | None = None) -> dict[str, Any]:
        """An order confirmation: a loop over the items."""
        language, name, address = self._person(local=local)
        items = self._items(language)
        return {
            **self._basis("order", address, name, "orders", priority=3),
            "template": "order-confirmation",
            "headers": {"X-Order-Number": f"A-{self._number:06}"},
            "context": {
                "lang": language.tag,
                "dir": language.dir,
                "name": name,
                "title": self._chance.choice(_EMOJI) + language.ordered,
                "thanks": language.thanks,
                "total_label": language.total,
                "order": {
                    "number": f"A-{self._number:06}",
                    "items": items,
                    "total": self._sum(items),
                    "currency": "EUR",
                },
                "ship_to": [name, self._chance.choice(language.cities)],
            },
        }

    def invoice(self, local: str | None = None) -> dict[str, Any]:
        """An invoice; some have a copy to the book-keeper."""
        language, name, address = self._person(local=local)
        items = self._items(language)
        mail = {
            **self._basis("invoice", address, name, "invoices"),
            "template": "invoice",
            "sender": '"Accounts" <accounts@example.com>',
            "reply_to": "accounts@example.com",
            "context": {
                "name": name,
                "number": f"2026-{self._number:05}",
                "issued": f"{NOW - timedelta(days=self._chance.randrange(0, 20)):%Y-%m-%d}",
                "due": f"{NOW + timedelta(days=14):%Y-%m-%d}",
                "lines": items,
                "total": self._sum(items),
                "currency": self._chance.choice(("EUR", "GBP", "CHF")),
                "paid": self._chance.random() < 0.2,  # noqa: PLR2004
            },
        }
        if self._number % 6 == 0:
            mail["cc"] = quoted("Bookkeeping, Dept. 4", f"books.{self._number}@example.org")
        if self._number % 10 == 0:
            mail["bcc"] = f"archive.{self._number}@example.net"
        return mail

    def invitation(self, local: str | None = None) -> dict[str, Any]:
        """Text only, to two recipients."""
        language, name, address = self._person(local=local)
        _, other, other_address = self._person()
        mail = self._basis("invitation", address, name, "notes")
        mail["recipients"] = f"{quoted(name, address)}, {quoted(other, other_address)}"
        return {
            **mail,
            "subject": "{{ topic }} ({{ names | join(' + ') }})",
            "body_text": "{{ names | join(', ') }}\n\n{{ text }}\n",
            "context": {"topic": language.note, "names": [name, other], "text": language.note_text},
        }

    def _items(self, language: Language) -> list[dict[str, Any]]:
        """One to three items with their prices in cents; the price that a person reads is text."""
        goods = self._chance.sample(language.goods, k=self._chance.randint(1, len(language.goods)))
        rows = ((name, self._chance.randint(1, 4), self._chance.randrange(295, 8995, 5)) for name in goods)
        return [
            {"name": name, "quantity": n, "price": money(cents), "amount": money(n * cents), "cents": n * cents}
            for name, n, cents in rows
        ]

    @staticmethod
    def _sum(items: list[dict[str, Any]]) -> str:
        """The total of ``items`` as text."""
        return money(sum(item.pop("cents") for item in items))


def money(cents: int) -> str:
    """``cents`` with two decimals."""
    return f"{cents // 100}.{cents % 100:02}"


def _places(count: int, total: int, offset: int) -> set[int]:
    """``count`` places spread evenly over ``total``."""
    return {offset + i * (total // count) for i in range(count)}


def csv_mails(times: int = 1) -> Iterator[dict[str, Any]]:
    """The mails of the CSV: 200 appointments, 200 newsletters, 120 password resets, 80 notes, times ``times``."""
    make = Maker(20261120)
    kinds = cycle([make.appointment, make.newsletter, make.password_reset, make.appointment, make.newsletter] * 2
                  + [make.note] * 2 + [make.appointment, make.newsletter, make.password_reset]
                  )  # fmt: skip
    refused = _places(REFUSED // 2, CSV_MAILS, 17)
    deferred = _places(DEFERRED // 2, CSV_MAILS, 41)
    for place in range(CSV_MAILS * times):
        local = "refused" if place in refused else "deferred" if place in deferred else None
        yield next(kinds)(local)


def jsonl_mails(times: int = 1) -> Iterator[dict[str, Any]]:
    """The mails of the JSONL: 200 orders, 120 invoices, 80 invitations, times ``times``."""
    make = Maker(20261121, before=CSV_MAILS * times)
    kinds = cycle([make.order, make.invoice, make.order, make.invitation, make.order, make.invoice, make.order,
                   make.invitation, make.order, make.invoice])  # fmt: skip
    refused = _places(REFUSED // 2, JSONL_MAILS, 13)
    deferred = _places(DEFERRED // 2, JSONL_MAILS, 32)
    utf8 = dict(zip(sorted(_places(UTF8_LOCAL, JSONL_MAILS, 60)), _UTF8_LOCALS, strict=True))
    for place in range(JSONL_MAILS * times):
        local = "refused" if place in refused else "deferred" if place in deferred else None
        mail = next(kinds)(local)
        if place in utf8:
            mail["recipients"] = utf8[place]
        yield mail


def bad_csv_rows() -> list[dict[str, str]]:
    """Rows that an import reports and skips: no address, no zone, no subject, a priority that is not a number."""
    good = {"subject": "Never sent", "body_text": "This line is wrong on purpose.\n", "tag": "invalid"}
    return [
        {**good},
        {**good, "recipients": "naive.time@example.com", "scheduled_at": "2026-11-20T09:00:00"},
        {"recipients": "no.subject@example.com", "body_text": "Where is my subject?\n", "tag": "invalid"},
        {**good, "recipients": "urgent@example.com", "priority": "urgent"},
    ]


def bad_jsonl_lines() -> list[str]:
    """Lines that an import reports and skips: incomplete JSON, the year 10000, no address, a second header line."""
    good = {"recipients": "someone@example.com", "subject": "Never sent", "body_text": "Wrong on purpose.\n"}
    return [
        '{"recipients": "cut@example.com", "subject": "Never s',
        _json({**good, "scheduled_at": "10000-01-01T00:00:00Z"}),
        _json({**good, "recipients": ""}),
        _json({**good, "subject": "Hello\r\nBcc: everybody@example.com"}),
    ]


def _json(value: Any) -> str:
    """``value`` as JSON on one line, readable in every script."""
    return json.dumps(value, ensure_ascii=False)


def csv_text(times: int = 1) -> str:
    """The CSV (UTF-8, commas, doubled quotes, CRLF line ends as in RFC 4180); bad rows are among the good ones."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    bad = dict(zip(sorted(_places(CSV_BAD, CSV_MAILS, 99)), bad_csv_rows(), strict=True))
    for place, mail in enumerate(csv_mails(times)):
        if place in bad:
            writer.writerow(bad[place])
        writer.writerow({k: _json(v) if isinstance(v, dict) else v for k, v in mail.items()})
    return out.getvalue()


def jsonl_text(times: int = 1) -> str:
    """The JSONL: one object a line, UTF-8; bad lines are among the good ones."""
    bad = dict(zip(sorted(_places(JSONL_BAD, JSONL_MAILS, 49)), bad_jsonl_lines(), strict=True))
    lines = []
    for place, mail in enumerate(jsonl_mails(times)):
        if place in bad:
            lines.append(bad[place])
        lines.append(_json(mail))
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write both files; or with ``--check`` test whether the existing files are the same."""
    parser = argparse.ArgumentParser(description="Make the example reservations.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this file)")
    parser.add_argument("--times", type=int, default=1, help="make so many times 1,000 mails (default: 1)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files differ")
    asked = parser.parse_args(arguments)
    files = {"reservations.csv": csv_text(asked.times), "reservations.jsonl": jsonl_text(asked.times)}
    for name, text in files.items():
        path, data = asked.out / name, text.encode()
        if asked.check and (not path.exists() or path.read_bytes() != data):
            sys.stderr.write(f"{path} is not what generate.py makes; run it without --check\n")
            return 1
        if not asked.check:
            asked.out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
