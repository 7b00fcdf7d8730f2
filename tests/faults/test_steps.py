"""Rows 1 and 2: who sends is killed, frozen or told to stop, at each step of a mail's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.fault import complaints, strike
from faults.house import open_house
from faults.kill_rows import KILLS, STOPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.fault import Fault
    from faults.house import House


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_house() as house:
        yield house


@pytest.mark.parametrize("fault", [f for f in KILLS + STOPS if f.short], ids=lambda fault: fault.row)
def test_nothing_is_lost_and_every_repeat_is_named_after(house: House, fault: Fault):
    damage = strike(house, fault, fault.row)
    assert not complaints(fault, damage), f"{damage}\n{house.log()[-3000:]}"
