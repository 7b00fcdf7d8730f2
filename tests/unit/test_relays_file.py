"""The relays' file: what it says, and how everything that is wrong in it is named by its line and its key."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

import pytest

from mailbatch.bootstrap.settings import read_settings
from mailbatch.bootstrap.transports import read_named_relay
from mailbatch.config import RelaysFile, relays_reading
from mailbatch.config.relay_tables import RelayTable
from mailbatch.config.relays_reading import read_relays_file
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.rate import Rate
from mailbatch.domain.routes import Route, first_choices, route_of
from mailbatch.domain.sending_hours import Hours, Window
from mailbatch.domain.sending_limit import LimitUnit, Per, SendingLimit
from mailbatch.domain.traits import Match, Names, PriorityIs, Traits

WHOLE = """\
[relays.ses]
url = "smtp://user@email-smtp.eu-west-1.amazonaws.com:587"
password_env = "SES_PASSWORD"
connections = "auto"
max_connections = 10
total_connections = 0
rate = ["14/s", "50000/d"]
count = "recipients"
timezone = "UTC"
[relays.own]
url = "smtp://mail.example.com:25"

[[routes]]
match = { tag = "newsletter-*", priority = "< 5", sender_domain = ["Bücher.example", "*.shop.example"] }
relays = "own"
[[routes]]
relays = ["ses", "own"]

[[limits]]
name = "gmail"
match = { recipient_domain = ["gmail.com", "googlemail.com"] }
rate = "20/s"
per = "domain"

[[windows]]
match = { tag = "newsletter-*" }
days = "mon-fri"
hours = "08:00-18:00"
timezone = "Europe/Berlin"
"""
RELAY = '[relays.a]\nurl = "smtp://a"\n'


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("SES_PASSWORD", "canary")
    return tmp_path / "relays.toml"


def read(path, text):
    path.write_text(text, "utf-8")
    return read_relays_file(path, read_named_relay)


def wrong(path, text):
    with pytest.raises(SettingsError) as error:
        read(path, text)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"MAILBATCH_RELAYS={path}: ") for line in lines)
    return [line.removeprefix(f"MAILBATCH_RELAYS={path}: ") for line in lines]


def test_the_whole_file_becomes_one_value(path):
    found = read(path, WHOLE)
    assert list(found.relays) == ["ses", "own"]
    ses = found.relays["ses"]
    assert (ses.connections, ses.max_connections, ses.total_connections) == ("auto", 10, 0)
    assert (ses.rate, ses.count) == ([Rate.read("14/s"), Rate.read("50000/d")], LimitUnit.RECIPIENTS)
    news = Names(("newsletter-*",))
    senders = Names(("xn--bcher-kva.example", "*.shop.example"))
    assert found.routes == (
        Route(match=Match(tag=news, priority=PriorityIs("<", 5), sender_domain=senders), relays=("own",)),
        Route(relays=("ses", "own")),
    )
    google = Match(recipient_domain=Names(("gmail.com", "googlemail.com")))
    assert found.limits == (SendingLimit(name="gmail", rates=(Rate.read("20/s"),), match=google, per=Per.DOMAIN),)
    berlin = ZoneInfo("Europe/Berlin")
    hours = Hours(time(8), time(18))
    assert found.windows == (Window(days=frozenset(range(5)), hours=hours, timezone=berlin, match=Match(tag=news)),)


def test_without_routes_every_mail_may_go_to_all_relays_in_the_order_of_the_file(path):
    found = read(path, RELAY + '[relays.b]\nurl = "smtp://b"\n')
    assert found.routes == (Route(relays=("a", "b")),)


def test_a_file_without_relays_has_no_routes(path):
    assert read(path, "") == RelaysFile()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = [", "is no TOML: Invalid value (at end of document)"),
        (f"{RELAY}conections = 3\n", "line 3: relays.a.conections: is no key here; did you mean connections?"),
        (f'{RELAY}tls = "yes"\n', "line 3: relays.a.tls: is no key here; there are url, password_env"),
        ("[relay.a]\n", "line 1: relay: is no key here; did you mean relays?"),
        ("\n[relays.a]\nconnections = 3\n", "line 2: relays.a.url: is missing"),
        ('[relays.a]\nurl = "ftp://h"\n', "line 2: relays.a.url: scheme: must be smtp:// or smtps://"),
        ('[relays.a]\nurl = "smtp://u:canary@h:0"\n', "line 2: relays.a.url: port: must be a number"),
        ("[relays.a]\nurl = 25\n", "line 2: relays.a.url: must be a valid string"),
        ("relays = 5\n", "line 1: relays: must be a valid dictionary (got 5)"),
        ("[relays]\na = 5\n", "line 2: relays.a: must be a valid dictionary or instance of RelayTable (got 5)"),
        ('[relays."a b"]\nurl = "smtp://a"\n', "line 1: relays.a b: a name must be 1 to 64 letters"),
        (
            f"{RELAY}connections = 0\n",
            "line 3: relays.a.connections: must be 'auto', or a number from 1 to 100 (got 0)",
        ),
        (f"{RELAY}connections = true\n", "line 3: relays.a.connections: must be 'auto', or a number"),
        (f"{RELAY}max_connections = '9'\n", "line 3: relays.a.max_connections: must be a valid integer (got '9')"),
        (f"{RELAY}total_connections = -1\n", "line 3: relays.a.total_connections: must be greater than or equal to 0"),
        (f'{RELAY}rate = ["14/s", "5"]\n', "line 3: relays.a.rate[2]: must be a rate such as '14/s'"),
        (f"{RELAY}rate = 14\n", "line 3: relays.a.rate: must be a valid list (got 14)"),
        (f'{RELAY}count = "mail"\n', "line 3: relays.a.count: must be 'mails' or 'recipients' (got 'mail')"),
        (f'{RELAY}timezone = "Mars"\n', "line 3: relays.a.timezone: must be a time zone's name"),
        (f'{RELAY}auth = "plain"\n', "line 3: relays.a.auth: must be 'xoauth2' (got 'plain')"),
        (f'{RELAY}auth = "xoauth2"\n', "line 3: relays.a.auth: xoauth2 needs token_command or token_file"),
        (f'{RELAY}token_command = "x"\n', 'line 3: relays.a.token_command: is used only with auth = "xoauth2"'),
        (f'{RELAY}auth = "xoauth2"\ntoken_file = "/no/such"\n', "line 2: relays.a.url: user: is missing"),
        (f"{RELAY}token_command = []\n", "line 3: relays.a.token_command: must be a command"),
        (f'{RELAY}token_command = "a \'b"\n', "line 3: relays.a.token_command: cannot be split into words"),
        (f'{RELAY}password_env = "NO_SUCH"\n', "line 2: relays.a.url: user: is missing"),
        (
            f'{RELAY}password_file = "/x"\npassword_env = "X"\n',
            "line 3: relays.a.password_file: there is a password_env",
        ),
        (f"{RELAY}[[routes]]\nrelays = []\n", "line 4: routes[1].relays: must name at least one relay"),
        (f'{RELAY}[[routes]]\nrelays = ["b"]\n', "line 4: routes[1].relays: there is no relay 'b'"),
        (f'{RELAY}[[routes]]\nrelays = ["a", "a"]\n', "line 4: routes[1].relays: names a relay twice"),
        ('[[routes]]\nrelays = ["b"]\n', "line 2: routes[1].relays: there is no relay 'b'; the file has no relays"),
        (
            f'{RELAY}[[routes]]\nmatch = {{ tga = "x" }}\nrelays = "a"\n',
            "line 4: routes[1].match.tga: is no key here; did you mean tag?",
        ),
        (
            f'{RELAY}[[routes]]\nrelays = "a"\n[routes.match]\npriority = 5\n',
            "line 6: routes[1].match.priority: must be a text such as '>= 10' (got 5)",
        ),
        (
            f'{RELAY}[[routes]]\nmatch = {{ recipient_domain = "ann@a.example" }}\nrelays = "a"\n',
            "line 4: routes[1].match.recipient_domain: must be a domain",
        ),
        (
            f'{RELAY}[[routes]]\nrelays = "a"\n[[routes]]\nrelays = "a"\n',
            "line 3: routes[1]: has no match, so the routes behind it are never used",
        ),
        (
            f'{RELAY}[[routes]]\nmatch = {{ tag = "x" }}\nrelays = "a"\n',
            "line 3: routes[1]: the last route must have no match",
        ),
        ('[[limits]]\nname = "g"\n', "line 1: limits[1].rate: is missing"),
        (
            '[[limits]]\nname = "g"\nrate = "1/s"\n[[limits]]\nname = "g"\nrate = "1/s"\n',
            "line 5: limits[2].name: 'g' is the name of another limit too",
        ),
        ('[[windows]]\nhours = "8-18"\n', "line 2: windows[1].hours: must be hours such as '08:00-18:00'"),
        ('[[windows]]\ndays = "mo"\n', "line 2: windows[1].days: must be days such as 'mon-fri'"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_key(path, text, said):
    [line] = wrong(path, text)
    assert line.startswith(said)
    assert "canary" not in line


def test_a_secret_that_is_missing_is_named(path):
    user = '[relays.a]\nurl = "smtp://u@h"\n'
    assert wrong(path, f'{user}password_env = "NO_SUCH"\n') == [
        "line 3: relays.a.password_env: the environment has no variable NO_SUCH, or an empty one"
    ]
    assert wrong(path, f'{user}password_file = "/no/such"\n') == [
        "line 3: relays.a.password_file: /no/such cannot be read: No such file or directory"
    ]
    assert wrong(path, f'{user}auth = "xoauth2"\ntoken_file = "/no/such"\n') == [
        "line 4: relays.a.token_file: must be an existing file; there is none at /no/such"
    ]


def test_all_that_is_wrong_is_named_at_once_in_the_order_of_the_file(path):
    text = '[relays.a]\nurl = 1\ncolour = 2\n[[windows]]\ndays = "x"\n'
    assert [line.partition(":")[0] for line in wrong(path, text)] == ["line 2", "line 3", "line 5"]


def test_a_file_that_is_not_text_is_refused_and_so_is_a_huge_one(path):
    path.write_bytes(b'\n[relays.a]\nurl = "\xff"')
    with pytest.raises(SettingsError, match="line 3: is not UTF-8"):
        read_relays_file(path, read_named_relay)
    assert wrong(path, "#" * (relays_reading.LONGEST + 1)) == [f"has more than {relays_reading.LONGEST} bytes"]


def test_a_limit_of_a_day_belongs_to_a_relay(path):
    assert wrong(path, f'{RELAY}rate = ["14/s", "9/d"]\n[[limits]]\nname = "g"\nrate = ["1/s", "9/d"]\n') == [
        "line 6: limits[1].rate: must be of seconds, minutes or hours; only a relay has a rate of a day"
    ]


def test_the_settings_are_wrong_if_the_file_is(path, monkeypatch):
    path.write_text(f"{RELAY}conections = 3\n")
    monkeypatch.setenv("MAILBATCH_RELAYS", str(path))
    with pytest.raises(SettingsError, match=r"line 3: relays\.a\.conections"):
        read_settings()
    path.unlink()
    with pytest.raises(SettingsError, match="must be an existing file; there is none at"):
        read_settings()


def test_a_relay_of_the_file_is_known_by_its_name_and_keeps_its_password_for_itself(path, monkeypatch):
    monkeypatch.setenv("SES_PASSWORD", "canary:/@")
    table = RelayTable(url="smtp://ann@h:587", password_env="SES_PASSWORD")
    relay = read_named_relay("ses", table)
    assert (relay.name, relay.username, relay.password) == ("ses", "ann", "canary:/@")
    assert relay.security == "starttls-required"
    path.write_text("from a file\n")
    assert read_named_relay("ses", RelayTable(url="smtp://ann@h", password_file=str(path))).password == "from a file"
    assert "canary" not in repr(relay) + repr(table)


# --- routes ---------------------------------------------------------------------------------------------------------

ROUTES = (
    Route(match=Match(tag=Names(("news-*",))), relays=("own", "ses")),
    Route(match=Match(priority=PriorityIs(">=", 10)), relays=("ses",)),
    Route(relays=("ses", "own")),
)


def test_the_first_route_that_fits_wins():
    assert route_of(ROUTES, Traits(tag="news-1", priority=20)) == ("own", "ses")
    assert route_of(ROUTES, Traits(priority=20)) == ("ses",)
    assert route_of(ROUTES, Traits()) == ("ses", "own")


def test_while_a_relay_is_away_the_next_of_its_routes_gets_their_mails():
    assert first_choices(ROUTES, ()) == {"own", "ses"}
    assert first_choices(ROUTES, {"own"}) == {"ses"}
    assert first_choices(ROUTES, {"ses"}) == {"own"}
    assert first_choices(ROUTES, {"ses", "own"}) == set()
