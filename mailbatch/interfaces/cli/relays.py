"""``mailbatch relays``: how each relay stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailbatch.domain.circuit import CircuitState
from mailbatch.domain.redaction.addresses import public
from mailbatch.interfaces.cli.output import as_json, clean, moment, print_json, print_table
from mailbatch.interfaces.cli.session import opened
from mailbatch.interfaces.documents import of_relay_standing

if TYPE_CHECKING:
    from mailbatch.application.looking.relays import RelayStanding

_STATES = {
    CircuitState.CLOSED: "gets mails",
    CircuitState.OPEN: "left alone",
    CircuitState.HALF_OPEN: "probed",
}


@click.command
@as_json
def relays(*, as_json: bool) -> None:
    """Show each relay: whether it gets mails, its connections, and since when and why it gets none.

    CONNECTIONS are those of all lanes and hosts, of how many there may be; they are counted only if there is a limit.
    """
    with opened() as parts:
        found, zone = parts.operating.show_relays(), parts.settings.timezone
    if as_json:
        print_json([of_relay_standing(one) for one in found])
        return
    columns = [("RELAY", "fixed"), ("STATE", "fixed"), ("CONNECTIONS", "fixed"), ("SINCE", "fixed"), ("WHY", "text")]
    print_table(columns, [_row(one, zone) for one in found], "")


def _row(one: RelayStanding, zone: str) -> tuple[str, ...]:
    circuit = one.circuit
    connections = "–" if one.connections is None else f"{one.connections} of {one.total}"
    if circuit.state is CircuitState.CLOSED:
        return (circuit.relay, _STATES[circuit.state], connections, "–", "")
    since = moment(circuit.opened_at, zone) if circuit.opened_at else "–"
    until = f"until {moment(circuit.open_until, zone)}: " if circuit.open_until and circuit.seconds_left > 0 else ""
    return (circuit.relay, _STATES[circuit.state], connections, since, clean(until + public(circuit.reason or "")))
