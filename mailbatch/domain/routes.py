"""Which relays may take a mail, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailbatch.domain.traits import EVERY_MAIL, Match

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mailbatch.domain.traits import Traits


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The mails of ``match`` go to the first of ``relays``, and to the next while the one before takes none."""

    relays: tuple[str, ...]
    match: Match = EVERY_MAIL


def route_of(routes: Sequence[Route], mail: Traits) -> tuple[str, ...]:
    """Return the names of the relays that may take ``mail``, the first choice first. The first route that fits wins."""
    return next(route.relays for route in routes if route.match.fits(mail))


def first_choices(routes: Sequence[Route], away: Container[str]) -> frozenset[str]:
    """Return the relays that get mails while those of ``away`` get none: the first that is left of each route."""
    left = ([name for name in route.relays if name not in away] for route in routes)
    return frozenset(names[0] for names in left if names)
