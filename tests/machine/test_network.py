"""The network to a server is cut for a while: nothing is reset, nothing refused, nothing comes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from faults.fault import ONE_CRASH, Fault
from faults.house import open_house
from support.postgres import ROLE

if TYPE_CHECKING:
    from pathlib import Path

    from faults.house import House
    from machine.network import Network, PooledConnection

AWAY = 20.0
MAILS = 200


def unix(path: Path) -> socket.socket:
    """Connect to a socket in the file system."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def wired(network: Network, house: House) -> tuple[dict[str, PooledConnection], dict[str, object]]:
    """A wire to each server, and the settings that lead over them."""
    assert house.postgres is not None
    postgres, redis = house.postgres.folder, house.redis.log.parent
    wires = {
        "the relay": network.wire(lambda: socket.create_connection(("127.0.0.1", house.relay.port))),
        "Redis": network.wire(lambda: unix(redis / "redis.sock")),
        "PostgreSQL": network.wire(lambda: unix(postgres / ".s.PGSQL.5432")),
    }
    at = {name: f"{wire.host}:{wire.port}" for name, wire in wires.items()}
    name = house.stack.database_url.partition("@/")[2].partition("?")[0]
    return wires, {
        "SMTP_URL": f"smtp://{at['the relay']}?starttls=off&timeout=2&data_timeout=3",
        "REDIS_URL": f"redis://{at['Redis']}/0",
        "DATABASE_URL": f"postgresql+psycopg://{ROLE}@{at['PostgreSQL']}/{name}",
    }


@pytest.mark.parametrize(
    ("row", "peers"),
    [
        ("m4a", ["the relay"]),
        ("m4b", ["Redis"]),
        ("m4c", ["PostgreSQL"]),
        ("m4d", ["the relay", "Redis", "PostgreSQL"]),
    ],
    ids=["relay", "redis", "postgresql", "all"],
)
def test_a_network_that_falls_silent_and_comes_back_costs_no_mail(network, struck, row: str, peers: list[str]):
    with open_house(under=network.under) as house:
        wires, settings = wired(network, house)

        def injure(house: House) -> None:
            house.wait_taken(30)
            for peer in peers:
                wires[peer].cut()
            house.pass_time(AWAY)
            for peer in peers:
                wires[peer].mend()

        fault = Fault(
            row=row,
            name=f"the network to {', '.join(peers)} is cut for {AWAY:g} s without a word",
            script={"dot": ["late", 0.02]},
            injure=injure,
            mails=MAILS,
            settings=settings,
            doubled=ONE_CRASH,
            doubtful=None,
            # The peers' kernels double their waiting between tries while nothing comes back.
            lasts=2 * AWAY,
        )
        struck(house, fault)
