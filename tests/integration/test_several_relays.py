"""Several relays: real SMTP and real databases, whole runs. What one relay does not take goes by the next, once."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from support.api import Api
from support.backlogs import database, reserve, states
from support.smtpfault import OFFERS, FaultServer, drop, silence
from support.smtpfault import say as answer

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.tables import mail_reservations, relay_circuits
from mailbatch.infrastructure.db.types import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_r = mail_reservations.c
MAILS = 60
DAY = "454 4.7.0 Throttling failure: Daily message quota exceeded."


class Installation:
    """Two relays, ``one`` and ``two``, with the routes of the file, and runs."""

    def __init__(self, url: str, folder: Path, one: FaultServer | int, two: FaultServer | int, **given: Any) -> None:
        self.url = url
        self.servers = {
            name: server for name, server in (("one", one), ("two", two)) if isinstance(server, FaultServer)
        }
        ports = {"one": one, "two": two}
        routes, parameters = given.pop("routes", ""), given.pop("parameters", {})
        tables = [
            f'[relays.{name}]\nurl = "smtp://127.0.0.1:{port if isinstance(port, int) else port.port}'
            f'?{parameters.get(name, "timeout=1&data_timeout=1")}"\nconnections = 2\n'
            for name, port in ports.items()
        ]
        file = folder / "relays.toml"
        file.write_text("".join(tables) + routes)
        settings = {"window": 8, "sender": "sender@example.com", **given}
        self.parts = Parts(Settings(database_url=url, relays=file, **settings))

    def tick(self, trigger: Trigger = Trigger.BEAT) -> dict[str, Any]:
        return send_all(self.parts, lock=False)(trigger).as_dict()

    def taken(self) -> Counter[str]:
        """Count the mails that each relay took, and see that none was taken twice."""
        by_relay = {name: [_message_id(mail.data) for mail in server.journal] for name, server in self.servers.items()}
        every = [one for ids in by_relay.values() for one in ids]
        assert len(every) == len(set(every))
        return Counter({name: len(ids) for name, ids in by_relay.items() if ids})

    def attempts(self) -> int:
        with database(self.url) as connection:
            return connection.scalar(sa.select(sa.func.sum(_r.attempts))) or 0

    def pass_time(self) -> None:
        """Let the circuits' times be over, and let every mail be due."""
        with database(self.url) as connection:
            connection.execute(sa.update(relay_circuits).values(open_until=now(-1)))
            connection.execute(sa.update(mail_reservations).where(_r.status == "pending").values(retry_at=None))

    def circuits(self) -> dict[str, str]:
        with database(self.url) as connection:
            return dict(connection.execute(sa.select(relay_circuits.c.relay, relay_circuits.c.state)).all())


def _message_id(data: bytes) -> bytes:
    found = re.search(rb"(?im)^message-id:\s*(\S+)", data)
    assert found
    return found[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture
def install(sqlite_url: str, tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Makes an installation. ``one`` and ``two``: the scripts of the relays; None: nothing listens there."""
    opened: list[Any] = []

    def make(
        one: Any = (), two: Any = (), *, url: str = sqlite_url, dialogue: str = "BDAT", **given: Any
    ) -> Installation:
        servers = []
        for script in (one, two):
            if isinstance(script, int):
                servers.append(script)
                continue
            server = FaultServer(dict(script), extensions=OFFERS[dialogue])
            opened.append(server.__enter__())
            servers.append(server)
        made = Installation(url, tmp_path, *servers, **given)
        opened.append(made.parts)
        return made

    yield make
    for one in reversed(opened):
        one.close() if isinstance(one, Parts) else one.__exit__()


FAULTS = {
    "hanging at the greeting": {"connect": silence},
    "hanging at the mail": {"mail": silence},
    "421 at the greeting": {"connect": answer("421 4.3.2 not now")},
    "421 to each mail": {"mail": answer("421 4.3.2 system shutting down")},
    "452 to all": {"rcpt": answer("452 4.3.1 Insufficient system storage")},
    "over its quota": {"dot": answer(DAY)},
    "dropping at once": {"ehlo": drop},
    "no login any more": {"mail": answer("535 5.7.8 your account is suspended")},
}


@pytest.mark.parametrize(
    ("fault", "dialogue"), [(one, "DATA" if one == "hanging at the mail" else "BDAT") for one in FAULTS]
)
def test_what_the_first_relay_does_not_take_goes_by_the_next_within_seconds_each_once(install, fault, dialogue):
    made = install(FAULTS[fault], dialogue=dialogue)
    reserve(made.url, MAILS)
    began = time.monotonic()
    report = made.tick()
    assert time.monotonic() - began < 20
    assert (report["outcome"], report["sent"], report["deferred"]) == ("completed", MAILS, 0), report
    assert states(made.url) == {"sent": MAILS}
    assert made.taken() == {"two": MAILS}
    assert made.attempts() == MAILS
    assert made.circuits()["one"] in {"open", "half_open"}


@pytest.mark.parametrize("url", ["sqlite_url", "postgres_url"])
def test_a_relay_at_which_nothing_listens_is_passed_over_and_comes_back(install, free_port, url, request):
    made = install(free_port, url=request.getfixturevalue(url))
    reserve(made.url, MAILS)
    assert made.tick()["sent"] == MAILS
    assert made.taken() == {"two": MAILS}
    with FaultServer(extensions=OFFERS["BDAT"], port=free_port) as back:
        made.servers["one"] = back
        made.pass_time()
        reserve(made.url, MAILS)
        assert made.tick()["sent"] == MAILS
        # The probe alone at first, and the next relay meanwhile; from then on all.
        probed = made.taken()["one"]
        assert probed >= 1
        reserve(made.url, MAILS)
        made.tick()
        assert made.taken()["one"] == probed + MAILS
    assert made.circuits() == {"one": "closed"}


def test_a_relay_without_the_tls_that_is_asked_for_is_passed_over(install):
    made = install(parameters={"one": "starttls=required"})
    reserve(made.url, MAILS)
    assert made.tick()["sent"] == MAILS
    assert made.taken() == {"two": MAILS}


def test_both_down_loses_nothing_uses_no_attempt_and_each_gets_one_probe_a_tick(install, free_port):
    made = install({"mail": answer("421 4.3.2 not now")}, {"mail": answer("421 4.3.2 not now")})
    reserve(made.url, MAILS)
    report = made.tick()
    assert report["outcome"] == "failed"
    assert "one: " in report["errors"][0]
    assert "two: " in report["errors"][0]
    asked = {name: server.verbs.count("MAIL") for name, server in made.servers.items()}
    made.tick()
    assert {name: server.verbs.count("MAIL") for name, server in made.servers.items()} == asked
    made.pass_time()
    made.tick()
    assert {name: server.verbs.count("MAIL") - asked[name] for name, server in made.servers.items()} == {
        "one": 1,
        "two": 1,
    }
    assert states(made.url) == {"pending": MAILS}
    assert made.attempts() == 0
    for server in made.servers.values():
        server.script = {}
    made.pass_time()
    assert made.tick()["sent"] == MAILS
    assert sum(made.taken().values()) == MAILS


def test_a_hanging_relay_holds_no_mail_of_another(install):
    routes = '[[routes]]\nmatch = { tag = "news" }\nrelays = "one"\n[[routes]]\nrelays = "two"\n'
    made = install({"dot": silence}, routes=routes, parameters={"one": "timeout=2&data_timeout=2"}, dialogue="DATA")
    reserve(made.url, MAILS)
    with database(made.url) as connection:
        connection.execute(sa.update(mail_reservations).values(tag="news"))
    reserve(made.url, MAILS)
    other = made.servers["two"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(made.tick)
        other.wait_for(lambda: len(other.journal) == MAILS)
        assert not running.done()
        report = running.result(60)
    assert report["sent"] == MAILS
    assert made.taken() == {"two": MAILS}


def test_a_mail_stays_with_the_relay_that_may_have_it(install):
    """A mail without a verdict is in doubt at its relay: it does not go by the next one in the same run."""
    made = install({"dot": drop}, dialogue="DATA", on_doubt="hold")
    reserve(made.url, 1)
    assert made.tick()["in_doubt"] == 1
    assert states(made.url) == {"in_doubt": 1}
    assert made.taken()["two"] == 0


def test_mails_in_doubt_by_a_relay_that_left_the_file_and_its_circuit_do_no_harm(install, free_port):
    made = install(free_port, free_port)
    reserve(made.url, MAILS)
    made.tick()
    with FaultServer(extensions=OFFERS["BDAT"]) as other:
        file = made.parts.settings.relays
        file.write_text(f'[relays.other]\nurl = "smtp://127.0.0.1:{other.port}"\n')
        after = Parts(made.parts.settings)
        made.pass_time()
        report = send_all(after, lock=False)(Trigger.BEAT).as_dict()
        after.close()
    assert report["sent"] == MAILS
    assert states(made.url) == {"sent": MAILS}


# --- doors -----------------------------------------------------------------------------------------------------------


def test_commands_name_each_relay_and_try_one(install, free_port, say, redis_url):
    made = install({"mail": answer("421 4.3.2 not now")}, free_port)
    given = {
        "DATABASE_URL": made.url,
        "REDIS_URL": redis_url,
        "RELAYS": str(made.parts.settings.relays),
        "RELAY_CONNECTIONS": "3",
        "SENDER": "sender@example.com",
    }
    reserve(made.url, 3)
    made.tick()
    code, out, _ = say("relays", "--json", **given)
    one, two = json.loads(out)
    assert code == 0
    assert (one["name"], one["state"], one["connections"], one["total_connections"]) == ("one", "open", 0, 3)
    assert "421" in one["reason"]
    assert one["since"] < one["until"]
    assert (two["name"], two["state"]) == ("two", "open")
    _, out, _ = say("relays")
    assert "left alone" in out
    _, out, _ = say("status")
    assert "the relay one" in out
    _, out, _ = say("doctor", "--json")
    checks = {found["check"]: found for found in json.loads(out)}
    assert checks["smtp one"]["ok"]
    assert not checks["smtp two"]["ok"]
    code, _, err = say("send-test", "--to", "ann@example.org", "--relay", "tow")
    assert code == 2
    assert "there is no relay tow; there are: one, two" in err
    code, _, err = say("send-test", "--to", "ann@example.org", "--relay", "two")
    assert code == 1
    assert "(two)" in err


def test_a_report_and_a_test_mail_go_by_the_next_relay_of_their_route(install, free_port, say, redis_url):
    made = install(free_port)
    relays = str(made.parts.settings.relays)
    code, out, _ = say(
        "send-test", "--to", "ann@example.org", DATABASE_URL=made.url, RELAYS=relays, SENDER="sender@example.com"
    )
    assert (code, out.strip().endswith("(two)")) == (0, True)
    channel = Parts(made.parts.settings.model_copy(update={"report_to": "boss@example.com"})).notifying.channels["mail"]
    channel("1", {**made.tick(), "job": "send-all", "quiet_runs": 0})
    assert [mail.recipients for mail in made.servers["two"].journal] == [("ann@example.org",), ("boss@example.com",)]


def test_the_api_shows_the_relays(install):
    made = install()
    with Api({"database_url": made.url, "relays": made.parts.settings.relays}) as api:
        items = api.get("/api/relays")["items"]
    assert [(item["name"], item["state"], item["reason"]) for item in items] == [
        ("one", "closed", None),
        ("two", "closed", None),
    ]
