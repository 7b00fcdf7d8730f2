"""Render the mails that wait, to report those that would fail before they are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Status, problems_beside_message
from mailbatch.domain.rows import ReservationPlace, ReservationRow
from mailbatch.domain.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailbatch.application.ports.sending import Renderer
    from mailbatch.application.ports.stores import Reservations

_PAGE = 50
"""Rows that are read at once with their bodies: each may have some megabytes."""
_WAITING = Selection(status=Status.PENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """``rendered`` mails, of which ``broken`` failed; ``example`` is one of them. ``whole``: all were rendered."""

    rendered: int
    broken: int
    example: str
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderWaiting:
    """Render the waiting mails, the newest first. A finished message is not rendered, and not read."""

    render: Renderer
    reservations: Reservations

    def __call__(self, enough: Callable[[], bool]) -> Looked:
        """Render until there are no more, or until ``enough`` returns True. It is called before each mail.

        Raises ``StoreError``.
        """
        rendered = broken = 0
        example = ""
        for row in self._rows():
            if enough():
                return Looked(rendered=rendered, broken=broken, example=example, whole=False)
            rendered += 1
            if fault := self._fault(row):
                broken += 1
                example = example or f"{row.id}: {fault}"
        return Looked(rendered=rendered, broken=broken, example=example, whole=True)

    def _rows(self) -> Iterator[ReservationRow]:
        after: ReservationPlace | None = None
        while rows := self.reservations.select(_WAITING, ReservationRow, after, _PAGE):
            yield from rows
            after = ReservationPlace.of(rows[-1])

    def _fault(self, row: ReservationRow) -> str | None:
        if row.message:
            return next(problems_beside_message(row), None)
        try:
            self.render(row.mail)
        except CannotCompose as error:
            return error.errors[0]
        return None
