"""The settings of a process: all that is wrong is said at once, and no secret with it."""

from __future__ import annotations

import pytest

from mailbatch import config
from mailbatch.bootstrap import read_settings
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.schedule import Cron, Every

WRONG = {
    "DATABASE_URL": ("oracle://u:geheim@h/x", "must be an SQLAlchemy URL"),
    "BROKER_URL": ("amqp://u:geheim@h", "must begin with redis://"),
    "SMTP_URL": ("smtps://u:geheim@h?ca_file=/no/ca.pem", "ca_file: must be an existing PEM file"),
    "SENDER": ("nobody", "is no address"),
    "SCHEDULE": ("0 0 30 2 *", "is no cron line that ever fires"),
    "LANES": ("many", "must be a valid integer"),
    "WEBHOOK_URL": ("ftp://h/geheim", "must begin with https://"),
}


def refused(monkeypatch: pytest.MonkeyPatch, **given: str) -> list[str]:
    for name, value in given.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)
    with pytest.raises(SettingsError) as error:
        read_settings()
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_with_what_it_must_be(monkeypatch, name):
    value, said = WRONG[name]
    [line] = refused(monkeypatch, **{name: value})
    assert line.startswith(f"MAILBATCH_{name}=")
    assert said in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://h:geheim/x", "has a host or a port that cannot be read"),
        ("https://h:99999/geheim", "has a host or a port that cannot be read"),
        ("https://[geheim/x", "has a host or a port that cannot be read"),
        ("https://h/geheim x", "has a space or a control character"),
        ("https://h/geheim\x7f", "has a space or a control character"),
    ],
)
def test_a_webhook_to_which_nothing_can_be_posted_is_refused(monkeypatch, url, said):
    [line] = refused(monkeypatch, WEBHOOK_URL=url)
    assert said in line
    assert "geheim" not in line


def test_all_wrong_settings_are_named_at_once_in_the_order_of_the_reference(monkeypatch):
    lines = refused(monkeypatch, **{name: value for name, (value, _) in reversed(WRONG.items())})
    assert [line.partition("=")[0].removeprefix("MAILBATCH_") for line in lines] == list(WRONG)


def test_a_variable_in_lower_case_is_read_and_checked_too(monkeypatch):
    monkeypatch.setenv("mailbatch_smtp_url", "smtp://h:0")
    assert refused(monkeypatch) == [
        (
            "MAILBATCH_SMTP_URL=smtp://h:0: port: must be a number from 1 to 65535; "
            "percent-encode : / ? # @ and blanks in user and password"
        )
    ]


@pytest.mark.parametrize(
    ("text", "when"),
    [("300", Every(300)), (" 0.5 ", Every(0.5)), ("0 6 * * 1-5", Cron("0 6 * * 1-5", "Europe/Berlin"))],
)
def test_the_schedule_is_seconds_or_a_cron_line_in_the_time_zone_of_the_settings(monkeypatch, text, when):
    monkeypatch.setenv("MAILBATCH_SCHEDULE", text)
    monkeypatch.setenv("MAILBATCH_TIMEZONE", "Europe/Berlin")
    assert read_settings().when == when


def test_a_url_in_a_setting_that_is_none_is_shown_without_its_password():
    assert config.masked("sender", "https://u:ge heim@h/x") == "https://u:***@h/x"
    assert config.masked("api_token", "geheim") == "***"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"RETURN_PATH": "b+{id}.{sig}@x.org"}, "{sig} needs MAILBATCH_RETURN_PATH_SECRET"),
        ({"RETURN_PATH": "b+{ID}@x.org"}, "no other braces"),
        ({"RETURN_PATH": "{sig}@x.org", "RETURN_PATH_SECRET": "x" * 16}, "no {id}"),
        ({"RETURN_PATH": "bounces+{id}"}, "is no address"),
        ({"RETURN_PATH": "Shop <b@x.org>"}, "must be one address without a name, or <>"),
        ({"RETURN_PATH": "b+{id}@bücher.example"}, "must be written plainly, as bounces+{id}@xn--bcher-kva.example"),
        ({"RETURN_PATH_SECRET": "geheim"}, "must have at least 16 characters"),
    ],
)
def test_a_return_path_that_names_no_mail_stops_the_start(monkeypatch, given, said):
    [line] = refused(monkeypatch, **given)
    assert said in line
    assert line.startswith("MAILBATCH_RETURN_PATH")
    assert "geheim" not in line


def test_a_return_path_is_read_and_its_secret_is_never_shown(monkeypatch):
    for name, value in {"RETURN_PATH": "b+{id}.{sig}@x.org", "RETURN_PATH_SECRET": "geheim" * 3}.items():
        monkeypatch.setenv(f"MAILBATCH_{name}", value)
    settings = read_settings()
    shown = {one.name: one.value for one in config.shown(settings)}
    assert shown["MAILBATCH_RETURN_PATH"] == "b+{id}.{sig}@x.org"
    assert shown["MAILBATCH_RETURN_PATH_SECRET"] == "***"
    assert shown["MAILBATCH_AUTO_SUBMITTED"] == "no"
    assert "geheim" not in repr(settings)
