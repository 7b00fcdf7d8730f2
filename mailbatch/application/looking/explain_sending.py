"""Explain a reservation that is being sent: by whom, and whether its sender lives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mailbatch.application.looking.explanation import ASK_RELAY, Cause, Reason, at, at_if_known, no_answer_for

if TYPE_CHECKING:
    from mailbatch.application.looking.explanation import Case
    from mailbatch.application.ports.reports import Reports
    from mailbatch.domain.rows import RunRow

_TAKEN_BACK = "the next run takes it back, by ON_DOUBT if it may have been on the wire"


@dataclass(frozen=True, slots=True)
class ExplainSending:
    """Explain a reservation that a lane of a run has claimed."""

    reports: Reports

    def __call__(self, case: Case) -> Cause:
        """Return how its sender is."""
        row = case.row
        run = self.reports.run(row.run_id) if row.run_id else None
        facts: dict[str, Any] = {
            "run_id": row.run_id,
            "lane": row.lane,
            "on_wire_since": row.wire_at,
            "lease_until": row.lease_until,
            "host": run.host if run else None,
            "pid": run.pid if run else None,
        }
        cause = self._cause(case, run)
        return replace(cause, facts=facts | dict(cause.facts))

    def _cause(self, case: Case, run: RunRow | None) -> Cause:
        row, snapshot = case.row, case.snapshot
        sender, lease = f"lane {row.lane} of run {row.run_id}", at(row.lease_until)
        if row.lease_until is None or row.lease_until <= case.now:
            sentence = f"It was claimed by {sender}, whose lease ended {lease}: its sender died or hangs."
            return Cause(Reason.SENDER_DIED, sentence, _TAKEN_BACK)
        if run is not None and (how := self._how_it_died(case, run)):
            sentence = f"It was claimed by {sender}, {how}."
            return Cause(Reason.SENDER_DIED, sentence, f"when its lease has ended {lease}, {_TAKEN_BACK}")
        since = f" since {at(row.wire_at)}" if row.wire_at else ""
        if (seconds := snapshot.silence) is not None and row.run_id == snapshot.run_id:
            sentence = f"It is being sent by {sender}{since}, but the relay is silent: {no_answer_for(seconds)}."
            return Cause(Reason.RELAY_SILENT, sentence, ASK_RELAY, {"unanswered_seconds": round(seconds)})
        sentence = f"It is being sent by {sender}{since}; its lease ends {lease} unless it is renewed."
        return Cause(Reason.BEING_SENT, sentence)

    def _how_it_died(self, case: Case, run: RunRow) -> str | None:
        """Return how the sender of a mail ended whose lease still lasts; None if it lives."""
        # A helper has signs of life, and an end, of its own.
        lane = self.reports.lane(run.run_id, case.row.lane) if case.row.lane else None
        ended_at = lane.left_at if lane else run.finished_at
        if ended_at is not None or (lane is None and run.outcome is not None):
            return f"which has ended{at_if_known(ended_at)} without it"
        silent = (case.now - (lane or run).heartbeat_at).total_seconds()
        if silent > case.snapshot.patience.dead_after:
            return f"which has given no sign of life for {silent:.0f} s: its process died, or hangs"
        return None
