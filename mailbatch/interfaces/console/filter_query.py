"""The filter of a list in links and forms. Links show every field except a part of an address."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request

from mailbatch.application.looking.filters import FIELDS, read_filter
from mailbatch.interfaces.console.searches import Searches
from mailbatch.interfaces.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mailbatch.application.looking.filters import FilterField
    from mailbatch.domain.selection import Selection

_LONGEST = 500
"""Characters of a search at most: this process stores them, and every reader may search."""
OPEN = tuple(name for name in FIELDS if name != "to")
"""The fields that a link shows. ``to`` becomes ``find``, a random name for the text stored in this process."""


class FilterQuery:
    """A filter as the user gave it. ``given``: the texts by the names of ``FIELDS``."""

    def __init__(self, given: Mapping[str, str], find: str | None) -> None:
        self.given = {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}
        self.find = find

    @property
    def fields(self) -> dict[str, str]:
        """Return all fields; a missing one is empty."""
        return {name: self.given.get(name, "") for name in FIELDS}

    @property
    def described(self) -> Collection[FilterField]:
        """Return the description of each field."""
        return FIELDS.values()

    @property
    def shown(self) -> list[FilterField]:
        """Return the description of each field that is given."""
        return [FIELDS[name] for name in self.given]

    def selection(self, now: datetime | None = None) -> Selection:
        """Return the filter. Raises ``InvalidReservation``."""
        return read_filter(self.given, now or datetime.now(UTC))

    def link(self, path: str, **other: str | None) -> str:
        """Return ``path`` with this filter. ``other`` replaces its fields; None removes a field."""
        shown = {name: self.given[name] for name in OPEN if name in self.given}
        if self.find is not None:
            shown["find"] = self.find
        shown |= {name: value for name, value in other.items() if value}
        shown = {name: value for name, value in shown.items() if name not in other or other[name]}
        return f"{path}?{urlencode(shown, errors='replace')}" if shown else path


def searches_of(request: Request) -> Searches:
    """Return the stored searches of this application."""
    state = request.app.state
    if getattr(state, "searches", None) is None:
        state.searches = Searches()
    found: Searches = state.searches
    return found


def _from_query(request: Request) -> FilterQuery:
    query = {name: request.query_params.get(name, "") for name in OPEN}
    find = request.query_params.get("find") or None
    if find is not None:
        text = searches_of(request).find(find)
        if text is None:
            raise Problem(
                HTTPStatus.GONE, "this search is forgotten, for addresses are kept out of links; search again"
            )
        query["to"] = text
    return FilterQuery(query, find)


def from_form(request: Request, fields: Mapping[str, list[str]]) -> FilterQuery:
    """Return the filter of a form, and store its part of an address."""
    given = {name: fields.get(name, [""])[0] for name in FIELDS}
    text = given["to"].strip()
    if len(text) > _LONGEST:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"to: has {len(text)} characters; {_LONGEST} are enough")
    return FilterQuery(given, searches_of(request).keep(text) if text else None)


Filtered = Annotated[FilterQuery, Depends(_from_query)]
"""The filter in the URL of a page."""
