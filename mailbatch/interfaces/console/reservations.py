"""``/reservations``: the list by state and filter, and the page of one mail."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from mailbatch.domain.act import FROM, Act, is_done
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose, InvalidReservation, NotFound
from mailbatch.domain.reservation import Status
from mailbatch.domain.selection import Selection
from mailbatch.interfaces.console.filter_query import Filtered, from_form
from mailbatch.interfaces.console.formatting import number
from mailbatch.interfaces.console.overview import snapshots_of
from mailbatch.interfaces.console.screen import Html, PageRoute, done, paused, show
from mailbatch.interfaces.console.snapshot import CAP
from mailbatch.interfaces.console.subjects import SECONDS, subjects_of
from mailbatch.interfaces.documents import result_text
from mailbatch.interfaces.downloads import download
from mailbatch.interfaces.framed import MAIL_POLICY, NO_LOOKUPS, with_images, without_hints
from mailbatch.interfaces.http.auth import CSRF_FIELD, FormFields, PageOperator, PageReader, csrf_token
from mailbatch.interfaces.http.problems import Problem
from mailbatch.interfaces.http.request_params import parts_of, searched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailbatch.application.looking.preview import Preview
    from mailbatch.application.ports.stores import Reservations
    from mailbatch.bootstrap.operating import Operating
    from mailbatch.domain.census import Census
    from mailbatch.domain.letter import Rendered
    from mailbatch.domain.rows import ReservationPlace, ReservationRow, ReservationSummary
    from mailbatch.domain.seen_message import Image, SeenMessage

router = APIRouter(prefix="/reservations", include_in_schema=False, route_class=PageRoute)

PAGE = 50
_MOST_COUNTED = 10_000
_COUNTED_WITHIN = 0.3
"""Seconds."""
_OLDEST_COUNTS = 10.0
"""Seconds: the greatest age of the counts beside the states."""
_LARGEST_IMAGES = 4 * 2**20
"""Bytes of the images that a mail attaches, in its preview."""
_LONGEST_TEXT = 50_000
"""Characters of a body that the page shows at most."""
_ACTS: dict[Status, tuple[Act, ...]] = {
    status: tuple(act for act in Act if status in FROM[act] and not (act is Act.REQUEUE and status is Status.CANCELLED))
    for status in Status
}
"""The acts of each state. A cancelled mail is restored, which is the same as requeued."""
_AGAIN = "The mail, rendered again"
_HEADINGS = {
    **dict.fromkeys((Status.PENDING, Status.FAILED, Status.CANCELLED), "The mail, as it would go now"),
    Status.EXPIRED: "The mail that was not sent",
}
"""The heading of a mail. A mail that was sent, or may have been, was made by the templates of that time."""


@router.get("")
def listed(request: Request, caller: PageReader, query: Filtered, cursor: str | None = None) -> Response:
    """Show a page of the list, newest first."""
    parts = parts_of(request)
    problems: Sequence[str] = ()
    rows: list[ReservationSummary] = []
    following: str | None = None
    counts: Mapping[Status, int] | None = None
    many: int | None = None
    further: ReservationPlace | None = None
    census = snapshots_of(request.app).now(at_most=_OLDEST_COUNTS).census
    try:
        which = query.selection()
        rows, following, further = searched(parts.stores.reservations, which, cursor, PAGE)
        counts = _counts(parts.stores.reservations, which, census)
        if not cursor and not further:
            many = len(rows) if following is None else _many(which, counts)
    except InvalidReservation as error:
        problems = error.problems
    return show(
        request,
        caller,
        "reservations.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK,
        title="Reservations",
        paused=paused(request),
        query=query,
        problems=problems,
        rows=rows,
        subjects=subjects_of(parts.operating.preview_within(SECONDS), rows),
        tabs=_tabs(counts, CAP if not problems and _is_plain(which) else _MOST_COUNTED),
        many=many,
        most=_MOST_COUNTED,
        next=query.link("/reservations", cursor=following) if following else None,
        further=further,
        later=cursor is not None,
        acts=_ACTS[Status(query.given["status"])] if not problems and query.given.get("status") else (),
    )


def _counts(reservations: Reservations, which: Selection, census: Census) -> Mapping[Status, int] | None:
    """Return how many the filter means in each state, or None if counting would be slow."""
    if _is_plain(which):
        return census.counts
    if which.to is not None or (which.reply is not None and which.since is None):
        return None
    counts, until = dict[Status, int](), time.monotonic() + _COUNTED_WITHIN
    for status in Status:
        left = max(until - time.monotonic(), _COUNTED_WITHIN / 10)
        counted = reservations.estimate(replace(which, status=status), _MOST_COUNTED, left)
        if counted.exact or counted.many > _MOST_COUNTED:
            counts[status] = counted.many
    return counts


def _tabs(counts: Mapping[Status, int] | None, most: int) -> Mapping[Status, str]:
    """Return the count beside each state, with a plus if it stops at ``most``."""
    return {
        status: f"{number(most)}+" if count > most or count == CAP else number(count)
        for status, count in (counts or {}).items()
    }


def _is_plain(which: Selection) -> bool:
    """Return whether the filter has no field but a state."""
    return which == Selection(status=which.status)


def _many(which: Selection, counts: Mapping[Status, int] | None) -> int | None:
    """Return the number to show above a page that is not the whole list. The tab shows the number of a state."""
    if counts is None or _is_plain(which):
        return None
    if which.status:
        return counts.get(which.status)
    return sum(counts.values()) if len(counts) == len(Status) else None


@router.post("/search")
def search(request: Request, caller: PageReader, fields: FormFields) -> Response:
    """Redirect the form of the filter to a link that has every field except an address."""
    if not hmac.compare_digest(fields.get(CSRF_FIELD, [""])[0].encode(), csrf_token(request, caller).encode()):
        raise Problem(HTTPStatus.FORBIDDEN, "this form is old, or not ours; load the page again")
    return RedirectResponse(from_form(request, fields).link("/reservations"), HTTPStatus.SEE_OTHER)


@router.get("/{reservation_id}")
def one(request: Request, caller: PageReader, reservation_id: UUID) -> Response:
    """Show one mail: why it was not sent yet or how it ended, its attempts, its preview, and its buttons."""
    parts = parts_of(request)
    row, attempts = parts.operating.show_reservation(reservation_id)
    status = row.status
    return show(
        request,
        caller,
        "reservation.html",
        title=f"Reservation {reservation_id}",
        paused=paused(request),
        row=row,
        carried=parts.operating.show_carried(row, row.id),
        attempts=attempts,
        explained=parts.operating.explain(reservation_id),
        preview=_previewed(parts.operating.preview, row),
        heading=_HEADINGS.get(status, _AGAIN),
        acts=_ACTS[status],
    )


@router.get("/{reservation_id}/html")
def html(request: Request, _caller: PageReader, reservation_id: UUID) -> Response:
    """Show its HTML as it would be now, in a frame with a policy of its own."""
    operating = parts_of(request).operating
    row, _ = operating.show_reservation(reservation_id)
    source, images = _html_of(operating, row)
    if source is None:
        raise NotFound(f"reservation {reservation_id} has no HTML")
    document = with_images(without_hints(source), images)
    return Html(document, headers={"Content-Security-Policy": MAIL_POLICY, **NO_LOOKUPS})


def _html_of(operating: Operating, row: ReservationRow) -> tuple[str | None, Mapping[str, Image]]:
    """Return the HTML of a mail, and the images that it shows."""
    shown = operating.preview.shown(row.mail)
    if shown.message is not None:
        return shown.message.html, shown.message.images
    own = operating.mail_files.images(row.attachments, _LARGEST_IMAGES)
    return shown.rendered.html, {**operating.shown_images(shown.rendered), **own}


@router.get("/{reservation_id}/message.eml")
def message(request: Request, _caller: PageReader, reservation_id: UUID) -> Response:
    """Send the message for saving, as it would go to the relay now."""
    operating = parts_of(request).operating
    row, _ = operating.show_reservation(reservation_id)
    data = operating.compose_apart(row.as_claimed(0, {})).data
    return download(ContentInMemory(data) if isinstance(data, bytes) else data, f"{reservation_id}.eml")


@router.get("/{reservation_id}/files/{number}")
def file(request: Request, _caller: PageReader, reservation_id: UUID, number: int) -> Response:
    """Send one of its files for saving; they are counted from 1."""
    operating = parts_of(request).operating
    row, _ = operating.show_reservation(reservation_id)
    opened = operating.mail_files.open(row.attachments, number)
    return download(opened.content, opened.file.filename)


@router.post("/{reservation_id}/{act}")
def press(
    request: Request,
    caller: PageOperator,
    reservation_id: UUID,
    act: Literal["cancel", "restore", "requeue", "resolve", "delete"],
) -> Response:
    """Do the act of a button."""
    verb = Act(act)
    result, _ = parts_of(request).acting.act.on_one(caller.actor, verb, reservation_id)
    succeeded = is_done(verb, result)
    snapshots_of(request.app).now.forget()
    if verb is Act.DELETE and succeeded:
        return done(request, "/reservations", f"Reservation {reservation_id} is deleted.")
    hint = "; only finished ones are" if verb is Act.DELETE else ""
    text = result_text(verb, result)
    return done(request, f"/reservations/{reservation_id}", f"{text[0].upper()}{text[1:]}{hint}.", good=succeeded)


@dataclass(frozen=True, slots=True)
class _Shown:
    rendered: Rendered | None
    message: SeenMessage | None = None
    problems: Sequence[str] = ()

    @property
    def text(self) -> str | None:
        """Return the text, cut to what a page shows."""
        text = self.rendered.text if self.rendered else None
        return text if text is None or len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}\n…"


def _previewed(preview: Preview, row: ReservationRow) -> _Shown:
    try:
        found = preview.shown(row.mail)
        return _Shown(found.rendered, found.message)
    except CannotCompose as error:
        return _Shown(None, problems=error.errors)
