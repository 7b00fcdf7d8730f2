"""No secret is shown: neither of a URL, however it is mistyped, nor of a reply that repeats a login."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailbatch.config import load
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.redaction.credentials import without_secrets
from mailbatch.domain.redaction.urls import mask_url, mask_urls, origin
from mailbatch.infrastructure.db.url_parameters import read_parameters
from mailbatch.infrastructure.redis.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "S3cretCanary"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"smtp://u:{SECRET}", "smtp://u:***"),
        (f"smtp://u:{SECRET}?starttls=no", "smtp://u:***?starttls=no"),
        (f"smtp://u:{SECRET}/", "smtp://u:***"),
        (f"smtp://u:25/{SECRET}", "smtp://u:25/***"),
        (f"smtp://{SECRET}@h", "smtp://***@h"),
        (f"smtp://u@h:{SECRET}", "smtp://***@h:***"),
        (f"smtp://u:p@h:{SECRET}", "smtp://u:***@h:***"),
        (f"smtp://u@h:25/{SECRET}", "smtp://***@h:25/***"),
        (f"REDIS://u@h:6379/{SECRET}", "REDIS://***@h:6379/***"),
        (f"postgresql://u@h:{SECRET}/x", "postgresql://u@h:***"),
        (f"redis:u@h:{SECRET}", "***@h:***"),
        (f"redis:{SECRET}@h", "***@h"),
        (f"redis:/{SECRET}@h", "***@h"),
        (f"redis//:{SECRET}@h:6379/0", "***@h:6379/0"),
        (f"redis:{SECRET}", "redis:***"),
        (f"u:{SECRET}@h/x", "***@h/x"),
        (f"u:{SECRET}", "u:***"),
        (SECRET, "***"),
        (f"u {SECRET} h", "***"),
        (f"redis://u:{SECRET}:6379/0", "redis://u:***"),
        (f"redis://h/{SECRET}", "redis://h/***"),
        (f"postgresql:///u:{SECRET}@h/x", "postgresql:///u:***@h/x"),
        (f"postgresql://u:a?{SECRET}@h/x", "postgresql://u:***@h/x"),
        (f"postgresql://u:a#{SECRET}@h/x", "postgresql://u:***@h/x"),
        (f"postgresql://u:a@{SECRET}@h/x", "postgresql://u:***@h/x"),
        (f"postgresql://h/x?password=a&{SECRET}", "postgresql://h/x?password=***"),
        (f"postgresql://h/x?password=a&{SECRET}=b&sslmode=require", "postgresql://h/x?password=***&sslmode=require"),
        (f"postgresql://h/x?passwort=a#{SECRET}", "postgresql://h/x?passwort=***"),
        (f"postgresql://h/x?password={SECRET}@b", "postgresql://h/x?password=***"),
        (f"redis://h:6379/0?PASSWORD={SECRET}&db=1", "redis://h:6379/0?PASSWORD=***&db=1"),
        (f"smtp://h:25?{SECRET}", "smtp://h:25?***"),
        (f"smtp://u:[{SECRET}]@h", "smtp://u:***@h"),
        (f"smtp://u:[{SECRET}]", "smtp://u:***"),
        (f"smtp://u:a\n{SECRET}", "smtp://u:***"),
    ],
)
def test_a_mistyped_url_is_shown_without_what_may_be_its_password(url, shown):
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite:///mail.db", "sqlite:////var/lib/a@b/mail.db", "mail.db", "/var/mail.db", "localhost:6379"),
        *("redis://localhost:6379/0", "rediss://cache/0?ssl_cert_reqs=required", "unix:///run/a@b.sock?db=1"),
        *("postgresql://app@db/mail", "postgresql://h1:5432,h2:5433/x?target_session_attrs=read-write"),
        *("smtp://[::1]:25", "smtps://relay.example.com:465?ca_file=/etc/ca.pem&timeout=9", "localhost"),
    ],
)
def test_what_holds_no_secret_is_shown_whole(url):
    assert mask_url(url) == url


FORMS = [
    f"{{scheme}}://u:{SECRET}",
    f"{{scheme}}://u@h:{SECRET}",
    f"{{scheme}}://u:p@h:{SECRET}/0",
    f"{{scheme}}:{SECRET}@h",
    f"{{scheme}}:u:{SECRET}@h",
    f"{{scheme}}//u:{SECRET}@h/x",
    f"{{scheme}}:/u:{SECRET}@h/x",
    f"{{scheme}}://u:[{SECRET}]@h",
    f"{{scheme}}://u:℀{SECRET}@h",
    f"{{scheme}}://u:a/{SECRET}@h",
    f"{{scheme}}://u:a?{SECRET}@h",
    f"{{scheme}}://u:a#{SECRET}@h",
    f"{{scheme}}://u:a&{SECRET}@h/?b",
    f"{{scheme}}://h/?password=a&{SECRET}",
    f"{{scheme}}://h/?password=a&{SECRET}=b",
    f"u:{SECRET}@h/x",
    f"u:{SECRET}",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "scheme"), [("DATABASE_URL", "postgresql"), ("REDIS_URL", "redis"), ("SMTP_URL", "smtp")]
)
def test_no_error_about_a_url_quotes_its_password(name, scheme, form, monkeypatch):
    url = form.format(scheme=scheme)
    monkeypatch.setenv(f"MAILBATCH_{name}", url)
    said = [told(read) for read in (load, lambda: connect(url), lambda: read_parameters(url))]
    assert any(said) or name != "SMTP_URL"
    assert not [line for line in said if SECRET in line or "\n" in line]


def told(read: Callable[[], object]) -> str:
    """What is wrong with it."""
    try:
        read()
    except (SettingsError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"cannot reach redis://me:{SECRET}@db:6379/0: refused", "cannot reach redis://me:***@db:6379/0: refused"),
        (f"two: smtp://a:{SECRET}@h, amqp://b:{SECRET}@h//", "two: smtp://a:***@h, amqp://b:***@h//"),
        (f"DSN postgresql://u@h/x?user=a@b&password={SECRET}", "DSN postgresql://u@h/x?user=***&password=***"),
        ("see https://example.org/docs of bob@example.org", "see https://example.org/docs of bob@example.org"),
        ("celery@host ready.", "celery@host ready."),
    ],
)
def test_each_url_with_a_login_is_masked_in_the_middle_of_a_text(line, shown):
    assert mask_urls(line) == shown


@settings(max_examples=50, deadline=None)
@given(st.text(), st.text())
def test_a_password_without_blanks_and_at_signs_is_hidden_in_any_text(before, after):
    assert SECRET not in mask_urls(f"{before} redis://u:{SECRET}@h/0 {after}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://hooks.example.com/services/{SECRET}", "https://hooks.example.com"),
        (f"https://u:{SECRET}@hooks.example.com:8443/x", "https://hooks.example.com"),
        (f"https://[{SECRET}/x", None),
        (f"https://h:{SECRET}/x", None),
        (SECRET, None),
    ],
)
def test_of_a_url_whose_path_is_a_secret_only_scheme_and_host_are_shown(url, shown):
    assert origin(url) == shown


# --- what a relay repeats ---

LOGIN = ("ann@example.org", "p/ss+w%rd ü<1>")


def _ways(password: str) -> dict[str, str]:
    octets = password.encode()
    return {
        "plain": password,
        "upper case": password.upper(),
        "lower case": password.lower(),
        "percent": quote(password, safe=""),
        "every byte percent": "".join(f"%{octet:02x}" for octet in octets),
        "every byte percent, upper case": "".join(f"%{octet:02X}" for octet in octets),
        "percent twice": quote(quote(password, safe=""), safe=""),
        "broken over lines": f"{password[:3]}\r\n {password[3:]}",
        "base64, broken over lines": " ".join(re.findall(".{1,7}", base64.b64encode(octets).decode())),
        "form": quote(password, safe="").replace("%20", "+"),
        "hex": octets.hex(),
        "hex, upper case": octets.hex().upper(),
        "hex with colons": octets.hex(":"),
        "hex with blanks": octets.hex(" "),
        "base64": base64.b64encode(octets).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(octets).decode().rstrip("="),
        "base64, upper case": base64.b64encode(octets).decode().upper(),
        "base64 of more": base64.b64encode(b"login=" + octets + b"; ok").decode(),
        "response": base64.b64encode(f"\0{LOGIN[0]}\0{password}".encode()).decode(),
        "response, percent": quote(base64.b64encode(f"\0{LOGIN[0]}\0{password}".encode()).decode(), safe=""),
        "entities": "".join(f"&#{ord(sign)};" for sign in password),
        "backslashes": "".join(f"\\x{octet:02x}" for octet in octets),
    }


@pytest.mark.parametrize("way", _ways("x"))
def test_a_password_that_a_relay_repeats_is_hidden_however_it_writes_it(way):
    said = _ways(LOGIN[1])[way]
    shown = without_secrets(f"5.7.8 you said {said}, go away", *LOGIN)
    assert shown.startswith("5.7.8 you said ")
    assert shown.endswith(", go away")
    assert "***" in shown
    assert said not in shown
    assert len(shown) <= len("5.7.8 you said , go away") + (24 if "more" in way else 6)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=4), st.sampled_from(sorted(_ways("x"))))
def test_any_password_of_some_length_is_hidden(password, way):
    # In the base64 of more than the password, four bytes leave too few signs that are theirs alone.
    assume(way != "base64 of more" or len(password.encode()) > 4)
    said = _ways(password)[way]
    assert said == "" or said not in without_secrets(f"you said {said}.", LOGIN[0], password)


@pytest.mark.parametrize("password", ["a", "e", "5", "no", "the"])
def test_a_short_password_leaves_the_other_words_legible(password):
    said = "5.7.8 authentication failed: bad user name or another secret"
    assert without_secrets(said, "ann", password) == said
    assert without_secrets(f"you said <{password}>", "ann", password) == "you said <***>"


def test_without_a_password_a_reply_stays_as_it_is():
    assert without_secrets("5.7.8 no", "ann", "") == "5.7.8 no"
