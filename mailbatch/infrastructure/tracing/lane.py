"""Records the work of a lane as spans. It wraps the lane's ports, so that a lane without tracing pays nothing.

A mail that was reserved in a trace gets the spans ``mailbatch.claim``, ``.compose``, ``.smtp`` and ``.settle`` there,
each linked to the span of the lane. Other mails get none. Spans hold ids and codes, never addresses or contents.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mailbatch.application.ports.sending import Nap
from mailbatch.domain.errors import CannotCompose, RunFailed, StoreError
from mailbatch.domain.outcome import ContentFault, Kind, RelayFault, Replied
from mailbatch.domain.redaction.addresses import public

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from mailbatch.application.ports.runs import Run
    from mailbatch.application.ports.sending import Backlog, Composer, RelayStream, Transport, Transports
    from mailbatch.application.sending.send_due import SendDue
    from mailbatch.domain.claimed import ClaimedMail, Cursor, Page, Without
    from mailbatch.domain.message import Claim, Message
    from mailbatch.domain.outcome import Outcome
    from mailbatch.domain.settlement import Settlement

log = logging.getLogger(__name__)


def traced(send_due: SendDue, tracer: Tracer, read: Callable[[Sequence[UUID]], Mapping[UUID, Any]]) -> SendDue:
    """Return ``send_due`` with spans. ``read`` returns the W3C headers of the traces in which mails were reserved."""
    mails, several = _Mails(tracer, read), send_due.several
    inner = replace(
        send_due,
        backlog=cast("Backlog", _TracedBacklog(send_due.backlog, mails)),
        compose=_TracedComposer(send_due.compose, mails),
        transport=_TracedTransport(send_due.transport, mails),
        several=several and replace(several, transports=_TracedTransports(several.transports, mails)),
    )
    return cast("SendDue", _TracedSendDue(inner, tracer))


@dataclass(slots=True)
class _Mails:
    """The mails of a lane that were reserved in a trace."""

    tracer: Tracer
    read: Callable[[Sequence[UUID]], Mapping[UUID, Any]]
    origins: dict[Claim, Context] = field(default_factory=dict)

    def adopt(self, page: Page, began: int) -> None:
        """Read which mails of a claimed group were reserved in a trace."""
        if not page.claimed:
            return
        try:
            headers = self.read([c.claim.reservation_id for c in page.claimed])
        except StoreError as error:
            log.warning("traces could not be read: %s", error)
            return
        ended = time.time_ns()
        for one in page.claimed:
            if found := headers.get(one.claim.reservation_id):
                self.origins[one.claim] = TraceContextTextMapPropagator().extract(found)
                self.begin(one.claim, "mailbatch.claim", began).end(ended)

    def begin(self, claim: Claim, name: str, began: int | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Span:
        """Start a span in the mail's own trace, linked to the span of the lane."""
        return self.tracer.start_span(
            name,
            context=self.origins[claim],
            kind=kind,
            links=[Link(get_current_span().get_span_context())],
            attributes={
                "mailbatch.reservation.id": str(claim.reservation_id),
                "mailbatch.claim_no": claim.claim_no,
            },
            start_time=began,
        )

    def settled(self, settlements: Sequence[Settlement], began: int) -> None:
        """Record the settlements of mails, and forget the mails."""
        ended = time.time_ns()
        for s in settlements:
            if s.claim in self.origins:
                span = self.begin(s.claim, "mailbatch.settle", began)
                span.set_attribute("mailbatch.status", s.status.value)
                span.set_attribute("mailbatch.tally", s.tally.value)
                span.end(ended)
                del self.origins[s.claim]

    @contextmanager
    def group(self, name: str) -> Iterator[tuple[Span, int]]:
        """Record a span in the lane's own trace, for a whole group. Yield it with the time at which it began."""
        with self.tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            yield span, time.time_ns()


class _TracedBacklog:
    """The port ``Backlog`` with spans for claims and settlements. Other methods go through unchanged."""

    def __init__(self, inner: Backlog, mails: _Mails) -> None:
        self._inner = inner
        self._mails = mails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def claim(self, run_id: UUID, lane: int, after: Cursor | None, limit: int, without: Without | None = None) -> Page:
        return self._claimed(lambda: self._inner.claim(run_id, lane, after, limit, without))

    def claim_isolated(self, run_id: UUID, lane: int) -> Page:
        return self._claimed(lambda: self._inner.claim_isolated(run_id, lane))

    def _claimed(self, claim: Callable[[], Page]) -> Page:
        with self._mails.group("mailbatch.claim") as (span, began):
            page = claim()
            span.set_attribute("mailbatch.claimed", len(page.claimed))
        self._mails.adopt(page, began)
        return page

    def settle(self, run_id: UUID, lane: int, settlements: Sequence[Settlement]) -> set[Claim]:
        with self._mails.group("mailbatch.settle") as (span, began):
            span.set_attribute("mailbatch.settled", len(settlements))
            held = self._inner.settle(run_id, lane, settlements)
        self._mails.settled(settlements, began)
        return held

    def settle_and_claim(
        self,
        run_id: UUID,
        lane: int,
        settlements: Sequence[Settlement],
        after: Cursor | None,
        limit: int,
        without: Without | None = None,
    ) -> tuple[set[Claim], Page]:
        with self._mails.group("mailbatch.settle_and_claim") as (span, began):
            held, page = self._inner.settle_and_claim(run_id, lane, settlements, after, limit, without)
            span.set_attribute("mailbatch.settled", len(settlements))
            span.set_attribute("mailbatch.claimed", len(page.claimed))
        self._mails.settled(settlements, began)
        self._mails.adopt(page, began)
        return held, page


class _TracedComposer:
    """The port ``Composer`` with a span for each mail."""

    def __init__(self, inner: Composer, mails: _Mails) -> None:
        self._inner = inner
        self._mails = mails

    def __call__(self, claimed: ClaimedMail) -> Message:
        if claimed.claim not in self._mails.origins:
            return self._inner(claimed)
        span = self._mails.begin(claimed.claim, "mailbatch.compose")
        try:
            message = self._inner(claimed)
            span.set_attribute("mailbatch.bytes", len(message.data))
        except CannotCompose:
            # The reasons quote the content of the mail.
            span.set_status(StatusCode.ERROR, "it cannot be composed")
            raise
        finally:
            span.end()
        return message


class _TracedTransport:
    """The port ``Transport`` with a span for each mail, from its pull until its outcome."""

    def __init__(self, inner: Transport, mails: _Mails) -> None:
        self._inner = inner
        self._mails = mails

    @property
    def capacity(self) -> int:
        """See the port."""
        return self._inner.capacity

    def send(
        self,
        messages: Iterable[Message | Nap],
        permit: Callable[[], bool],
        commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None,
    ) -> Generator[Outcome | None, None, None]:
        on_wire: dict[Claim, Span] = {}
        pulled = _pulled(messages, self._mails, on_wire)
        yield from _ended(self._inner.send(pulled, permit, commit_intent), on_wire)


class _TracedTransports:
    """The port ``Transports`` with a span for each mail, from its pull until its outcome."""

    def __init__(self, inner: Transports, mails: _Mails) -> None:
        self._inner = inner
        self._mails = mails

    def send(
        self, streams: Sequence[RelayStream], commit_intent: Callable[[Sequence[Claim]], set[Claim]] | None = None
    ) -> Generator[Outcome | None, None, None]:
        on_wire: dict[Claim, Span] = {}
        pulled = [replace(one, messages=_pulled(one.messages, self._mails, on_wire)) for one in streams]
        yield from _ended(self._inner.send(pulled, commit_intent), on_wire)


def _pulled(messages: Iterable[Message | Nap], mails: _Mails, on_wire: dict[Claim, Span]) -> Iterator[Message | Nap]:
    """Begin the span of each message that is pulled."""
    for message in messages:
        if not isinstance(message, Nap) and message.claim in mails.origins:
            on_wire[message.claim] = mails.begin(message.claim, "mailbatch.smtp", kind=SpanKind.CLIENT)
        yield message


def _ended(
    outcomes: Generator[Outcome | None, None, None], on_wire: dict[Claim, Span]
) -> Generator[Outcome | None, None, None]:
    """End the span of each mail with its outcome."""
    try:
        for outcome in outcomes:
            if outcome is not None and (span := on_wire.pop(outcome.claim, None)) is not None:
                _describe(span, outcome)
                span.end()
            yield outcome
    finally:
        outcomes.close()
        for span in on_wire.values():
            span.set_status(StatusCode.ERROR, "no verdict")
            span.end()


class _TracedSendDue:
    """``SendDue`` with a span for the work of the lane."""

    def __init__(self, inner: SendDue, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, run: Run, lane: int = 0) -> None:
        about: dict[str, str | int] = {"mailbatch.run.id": str(run.id), "mailbatch.lane": lane}
        with self._tracer.start_as_current_span(
            "mailbatch.send_due", attributes=about, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                self._inner(run, lane)
            except RunFailed as error:
                span.set_status(StatusCode.ERROR, public(str(error)))
                raise


def _describe(span: Span, outcome: Outcome) -> None:
    match outcome:
        case Replied(_, relay, verdicts):
            span.set_attribute("server.address", relay)
            worst = next((v for v in verdicts.values() if v.kind is not Kind.ACCEPTED), None)
            verdict = worst or next(iter(verdicts.values()))
            span.set_attribute("mailbatch.verdict", verdict.kind.value)
            span.set_attribute("smtp.reply_code", verdict.reply.code)
            if worst is not None:
                span.set_status(StatusCode.ERROR, public(str(worst.reply)))
        case RelayFault(_, relay, reason) | ContentFault(_, relay, reason):
            span.set_attribute("server.address", relay)
            span.set_status(StatusCode.ERROR, public(reason))
        case _:
            span.set_attribute("mailbatch.verdict", "not_sent")
