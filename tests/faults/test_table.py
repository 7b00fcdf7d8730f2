"""The table of faults, each in its short form: done to a real worker under way, and counted.

The houses are struck side by side before the first test is asked; the tests say what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faults.file_rows import FILES
from faults.kill_rows import KILLS, STOPS, STRICT
from faults.mail_rows import MAILS
from faults.relay_rows import RELAY
from faults.store_rows import DATABASE, REDIS, SQLITE
from faults.street import strike_all

if TYPE_CHECKING:
    from faults.fault import Fault
    from faults.street import Finding

LONG_ONLY = {"2d", "3a", "3d", "3e", "3i", "4a", "4c", "4h", "5b", "5c", "5f", "5h", "5i", "5l", "5n"}
"""Near others that stay, or tried in detail by tests of the transport."""
SHORT = {
    fault.row: fault
    for fault in [*KILLS, *STRICT, *STOPS, *REDIS, *DATABASE, *RELAY, *MAILS, *FILES]
    if fault.short and fault.row not in LONG_ONLY
}
ON_SQLITE = {fault.row: fault for fault in [*SQLITE, *RELAY] if fault.row in {"4j", "5e"}}


@pytest.fixture(scope="module")
def findings(request: pytest.FixtureRequest) -> dict[tuple[str, str], Finding]:
    """What came of each fault that this session asks for."""
    asked = [item.callspec.params for item in request.session.items if item.path == request.path]
    of = {kind: [params["fault"] for params in asked if params["kind"] == kind] for kind in ("postgresql", "sqlite")}
    found = strike_all(of["postgresql"]) + strike_all(of["sqlite"], kind="sqlite", houses=1)
    return {(finding.kind, finding.fault.row): finding for finding in found}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [*(("postgresql", fault) for fault in SHORT.values()), *(("sqlite", fault) for fault in ON_SQLITE.values())],
    ids=lambda value: getattr(value, "row", value),
)
def test_nothing_is_lost_and_every_repeat_is_named_under(findings, kind: str, fault: Fault):
    finding = findings[kind, fault.row]
    assert not finding.complaints, f"{fault.name}: {finding.damage}\n{finding.log}"
