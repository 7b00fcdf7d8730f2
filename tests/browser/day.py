"""A shop's day of mail, for pictures: the example mails, given the fates that a day has in store for them.

What is written here is what runs write: reservations, their tries, runs and the errors of runs. It ends in the present,
with mails that are due, so that a real run can go on from there.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from support.backlogs import database

from mailbatch.domain.lifecycle import NO_VERDICT
from mailbatch.infrastructure.db.runs import DIED
from mailbatch.infrastructure.db.tables import (
    batch_runs,
    batch_schedule,
    mail_attempts,
    mail_reservations,
    operator_actions,
    run_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Row

HOST = "mail1"
TICK = timedelta(minutes=5)
BOUND = 256
_RATE = 60.0
"""Mails a second of the runs that were."""
_RUNS = 288
"""Ticks of a day."""


class Try(NamedTuple):
    """How a try ended. The text is the relay's, with its enhanced code first if it has one."""

    outcome: str
    code: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.code else self.text


ACCEPTED = Try("sent", 250, "2.0.0 Ok: queued as {queue}")
GREYLISTED = Try("deferred", 451, "4.7.1 Greylisted, please try again in 300 seconds")
FULL = Try("deferred", 452, "4.2.2 The mailbox is over its quota")
FULL_AT_LAST = Try("failed", 452, "4.2.2 The mailbox is over its quota")
UNKNOWN = Try("failed", 550, "5.1.1 Recipient address rejected: User unknown in virtual mailbox table")
SPAM = Try("failed", 554, "5.7.1 Message rejected: its content looks like spam")
DOUBT = Try("in_doubt", None, NO_VERDICT)


@dataclass
class Run:
    """One that ended. ``number`` counts ticks back from the present."""

    number: int
    started_at: datetime
    id: UUID
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[int, UUID, str]] = field(default_factory=list)
    items: int = 0
    died: bool = False

    def at(self) -> datetime:
        """When its next mail was answered."""
        self.items += 1
        return self.started_at + timedelta(seconds=0.4 + self.items / _RATE)


class Day:
    """The day that ends ``now``; ``relay`` is whom it went to."""

    def __init__(self, url: str, relay: str, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)
        self._url, self._relay = url, relay
        self._chance = random.Random(20261121)  # noqa: S311 - the same day each time
        # The last tick was two minutes ago.
        last = self.now - timedelta(minutes=2)
        self.runs = [Run(n, last - n * TICK, self._uuid()) for n in range(_RUNS)]
        self._attempts: list[dict[str, object]] = []
        self._changes: list[dict[str, object]] = []

    def write(self) -> None:
        """Give every reservation of the database its fate."""
        with database(self._url) as connection:
            rows = connection.execute(
                sa.select(mail_reservations.c.id, mail_reservations.c.tag).order_by(mail_reservations.c.idempotency_key)
            ).all()
            for row, fate in self._fates(rows):
                fate(row.id)
            self._store(connection)

    # --- who has which fate ---

    def _fates(self, rows: list[Row]) -> Iterator[tuple[Row, Callable[[UUID], None]]]:
        by_tag: dict[str, list[Row]] = {}
        for row in rows:
            by_tag.setdefault(row.tag, []).append(row)
        for tag, mails in by_tag.items():
            self._chance.shuffle(mails)
            for place, row in enumerate(mails):
                yield row, self._fate_of(tag, place, len(mails))

    def _fate_of(self, tag: str, place: int, many: int) -> Callable[[UUID], None]:
        share = place / many
        special = [
            (tag in {"newsletter", "notes"} and share < 0.55, lambda: self._waits(minutes=0.2 + 2.8 * share)),
            (tag == "newsletter" and place % 40 == 0, lambda: self._cut_off(hours=6.0)),
            (tag == "notes" and share > 0.93, lambda: self._cancelled(hours=3.0)),
            (tag == "appointments" and share > 0.85, lambda: self._to_come(hours=14.0)),
            (tag == "orders" and place < 31, lambda: self._put_off(tries=1 + place % 2)),
            (tag == "accounts" and place < 12, lambda: self._expired(hours=13.0)),
            (tag in {"orders", "invoices"} and share > 0.97, self._full_to_the_end),
        ]
        return next((fate for fits, fate in special if fits), lambda: self._as_usual(tag))()

    def _as_usual(self, tag: str) -> Callable[[UUID], None]:
        """Campaigns go at one time; what people ask for comes all day long, rather lately than long ago."""
        campaigns = {"newsletter": 5.2, "appointments": 8.4, "invoices": 1.2}
        hours = campaigns.get(tag) or 23.5 * self._chance.betavariate(1.0, 1.3) + 0.05
        luck = self._chance.random()
        if luck < 0.015:
            return self._ends(hours, self._chance.choice([UNKNOWN, UNKNOWN, UNKNOWN, SPAM]))
        return self._ends(hours, GREYLISTED, ACCEPTED) if luck < 0.045 and hours > 1 else self._ends(hours, ACCEPTED)

    # --- fates ---

    def _waits(self, minutes: float) -> Callable[[UUID], None]:
        made = self.now - timedelta(minutes=minutes)
        return lambda own: self._change(own, made, made)

    def _to_come(self, hours: float) -> Callable[[UUID], None]:
        due = (self.now + timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)
        return lambda own: self._change(own, self.now - timedelta(hours=4), due)

    def _cancelled(self, hours: float) -> Callable[[UUID], None]:
        when = self.now - timedelta(hours=hours)
        made = when - timedelta(minutes=17)
        return lambda own: self._change(own, made, when + timedelta(hours=9), status="cancelled", finished_at=when)

    def _expired(self, hours: float) -> Callable[[UUID], None]:
        made = self.now - timedelta(hours=hours)
        ended = self._run_after(made + timedelta(minutes=30))

        def fate(own: UUID) -> None:
            ended.counts["expired"] += 1
            said = "expires_at passed before it was claimed"
            until = made + timedelta(minutes=15)
            finished = ended.started_at
            self._change(own, made, made, status="expired", expires_at=until, finished_at=finished, last_error=said)

        return fate

    def _ends(self, hours: float, *tries: Try) -> Callable[[UUID], None]:
        """Made so many hours ago, and tried by the runs that came next."""
        return lambda own: self._try(own, self.now - timedelta(hours=hours), tries)

    def _put_off(self, tries: int) -> Callable[[UUID], None]:
        """Its last try was by the last run, so it waits for the next."""
        made = self.now - timedelta(minutes=4 + 6 * (tries - 1))
        again = timedelta(minutes=self._chance.uniform(3, 8))
        return lambda own: self._try(own, made, [GREYLISTED] * tries, again=again)

    def _full_to_the_end(self) -> Callable[[UUID], None]:
        """Put off each hour until all tries were used up, within the last hour."""
        made = self.now - timedelta(hours=4, minutes=self._chance.uniform(22, 58))
        return lambda own: self._try(own, made, [FULL] * 4 + [FULL_AT_LAST], apart=timedelta(hours=1))

    def _cut_off(self, hours: float) -> Callable[[UUID], None]:
        """On the wire when the run's process was killed; sent again by the next."""
        return self._ends(hours, DOUBT, ACCEPTED)

    # --- how a fate is written ---

    def _try(
        self,
        own: UUID,
        made: datetime,
        tries: list[Try] | tuple[Try, ...],
        *,
        again: timedelta | None = None,
        apart: timedelta = TICK,
    ) -> None:
        due, run, when = made, None, made
        for number, said in enumerate(tries, 1):
            run = self._run_after(due)
            when = run.at()
            due = when + apart
            # What a dead run left behind is counted, and told, by the run that found it.
            teller = self.runs[run.number - 1] if said is DOUBT else run
            teller.counts[said.outcome] += 1
            if said is ACCEPTED:
                break
            run.died = run.died or said is DOUBT
            self._attempts.append(self._attempt(own, number, run, when, said))
            teller.items += teller is not run
            teller.errors.append((teller.items, own, str(said)))
        assert run is not None
        last = tries[-1]
        told = last.text.format(queue=f"{self._chance.getrandbits(44):011X}")
        columns: dict[str, object] = {
            "claim_no": len(tries),
            "attempts": len(tries),
            "run_id": run.id,
            "lane": 0,
            "item_index": run.items,
            "relay": self._relay,
            "reply_code": last.code,
            "reply_text": told,
            "message_id": f"<{own}@example.com>",
        }
        if last is ACCEPTED:
            columns |= {"status": "sent", "sent_at": when, "finished_at": when}
        elif again is not None:
            columns |= {"retry_at": self.now + again, "last_error": str(last)}
        else:
            used_up = f"; all {len(tries)} attempts are used up" if len(tries) > 1 else ""
            columns |= {"status": "failed", "finished_at": when, "last_error": str(last) + used_up}
        self._change(own, made, made, **columns)

    def _attempt(self, own: UUID, number: int, run: Run, when: datetime, said: Try) -> dict[str, object]:
        first = said.text.split(" ", 1)[0]
        resolved = f"; resolved by run {self.runs[run.number - 1].id}" if said is DOUBT else ""
        return {
            "reservation_id": own,
            "claim_no": number,
            "run_id": run.id,
            "lane": 0,
            "relay": None if said is DOUBT else self._relay,
            "ended_at": when,
            "outcome": said.outcome,
            "reply_code": said.code,
            "enhanced_code": first if said.code else None,
            "reply_text": said.text + resolved,
        }

    def _run_after(self, when: datetime) -> Run:
        """The first run that began after ``when``."""
        number = int((self.runs[0].started_at - when) / TICK) if when <= self.runs[0].started_at else 0
        return self.runs[min(max(number, 0), _RUNS - 1)]

    def _change(self, own: UUID, made: datetime, due: datetime, **columns: object) -> None:
        defaults = dict.fromkeys((c.name for c in _CHANGED), None) | {"status": "pending", "claim_no": 0, "attempts": 0}
        own_columns = {"own": own, "created_at": made, "scheduled_at": due}
        values = {**defaults, **columns, **own_columns}
        self._changes.append({f"{name}_" if name != "own" else name: value for name, value in values.items()})

    def _store(self, connection: Connection) -> None:
        r = mail_reservations.c
        changed = sa.update(mail_reservations).where(r.id == sa.bindparam("own"))
        changed = changed.values({c.name: sa.bindparam(f"{c.name}_", type_=c.type) for c in _CHANGED})
        connection.execute(changed, self._changes)
        # Three of those that go next ask for what nobody gave.
        going = sa.select(r.id).where(r.status == "pending", r.tag == "notes").order_by(r.due_at, r.id)
        ids = list(connection.scalars(going.limit(20)))[::7]
        connection.execute(sa.update(mail_reservations).where(r.id.in_(ids)).values(context=None))
        connection.execute(sa.insert(batch_runs), [self._run(run) for run in reversed(self.runs)])
        connection.execute(sa.insert(mail_attempts), self._attempts)
        errors = [
            {"run_id": run.id, "item_index": index, "reservation_id": own, "errors": [said]}
            for run in self.runs
            for index, own, said in run.errors
        ]
        connection.execute(sa.insert(run_errors), errors)
        connection.execute(sa.insert(operator_actions), list(self._deeds()))
        last = self.runs[0].started_at
        ticks = {"name": "send-all", "last_tick_at": last, "next_tick_at": last + TICK}
        connection.execute(sa.insert(batch_schedule).values(ticks))

    def _run(self, run: Run) -> dict[str, object]:
        seconds = 0.6 + run.items / _RATE
        return {
            "run_id": run.id,
            "job": "send-all",
            "trigger": "beat",
            "outcome": "failed" if run.died else "completed",
            "error": DIED if run.died else None,
            "started_at": run.started_at,
            "heartbeat_at": run.started_at + timedelta(seconds=seconds),
            "finished_at": run.started_at + timedelta(seconds=seconds),
            "duration": None if run.died else round(seconds, 3),
            "bound": BOUND,
            "claimed": run.items,
            "host": HOST,
            "pid": 4711,
            **{name: run.counts[name] for name in ("sent", "failed", "deferred", "in_doubt", "expired")},
        }

    def _deeds(self) -> Iterator[dict[str, object]]:
        cancel = {"status": "pending", "tag": "notes", "since": "1h"}
        for hours, actor, action, target, affected in (
            (3.0, "console:operate", "cancel", cancel, self._cancels()),
            (12.6, "cli:anna", "pause", {"job": "send-all", "what": "ticks"}, None),
            (12.4, "cli:anna", "resume", {"job": "send-all"}, None),
        ):
            yield {
                "id": self._uuid(),
                "at": self.now - timedelta(hours=hours),
                "actor": actor,
                "action": action,
                "target": target,
                "affected": affected,
                "outcome": "done",
            }

    def _cancels(self) -> int:
        return sum(change["status_"] == "cancelled" for change in self._changes)

    def _uuid(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128), version=4)


_CHANGED = tuple(
    mail_reservations.c[name]
    for name in (
        *("status", "created_at", "scheduled_at", "expires_at", "retry_at", "sent_at", "finished_at", "claim_no"),
        *("attempts", "run_id", "lane", "item_index", "relay", "reply_code", "reply_text", "message_id", "last_error"),
    )
)
