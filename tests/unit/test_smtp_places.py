"""The places for connections to a relay, when their number changes; and what a climb recalls."""

from __future__ import annotations

from types import SimpleNamespace

from mailbatch.domain.relay_profile import RelayProfile
from mailbatch.infrastructure.smtp.capabilities import RelayCapabilities
from mailbatch.infrastructure.smtp.climb import Climb
from mailbatch.infrastructure.smtp.connection_state import State
from mailbatch.infrastructure.smtp.errors import RelayError
from mailbatch.infrastructure.smtp.place import Places


def filled(count: int, connections: int) -> Places:
    """Return places of which so many have an open connection."""
    places: Places = Places(count)
    places.has_connected = True
    for place in places.free()[:connections]:
        place.connection = SimpleNamespace(state=State.OPEN)
    return places


def test_more_places_are_free_when_more_connections_are_allowed():
    places = filled(2, 2)
    assert places.free() == []
    places.allow(5)
    assert len(places.free()) == 3


def test_no_place_is_free_while_there_are_as_many_connections_as_are_allowed():
    places = filled(6, 4)
    places.allow(4)
    assert places.free() == []
    places.allow(5)
    assert len(places.free()) == 1
    places.allow(2)
    assert places.free() == []


def test_a_place_that_rests_after_a_fault_is_not_replaced_by_another():
    places = filled(6, 3)
    places.allow(4)
    [place] = places.free()
    place.rest_unopened(RelayError("it hung up"))
    assert places.free() == []
    places.end_rests()
    assert len(places.free()) == 1


class Remembers:
    """The port ``RelayMemory`` with a number of connections."""

    def recall(self) -> RelayProfile:
        return RelayProfile(connections=9)

    def note(self, _profile: RelayProfile) -> bool:
        return True


def test_a_climb_begins_with_the_number_of_the_last_run_once_and_within_its_limit():
    capabilities = RelayCapabilities(memory=Remembers)
    capabilities.recall()
    climb, narrow = Climb(4, 20), Climb(4, 6)
    climb.recall(capabilities)
    narrow.recall(capabilities)
    assert (climb.number, narrow.number) == (9, 6)
    assert climb.refused(3, 1.0)
    climb.recall(capabilities)
    assert climb.number == 3, "a later pass goes on with what this run has found"


def test_a_climb_that_was_never_told_of_a_number_begins_at_the_first():
    climb = Climb(4, 20)
    climb.recall(RelayCapabilities())
    assert climb.number == 4
