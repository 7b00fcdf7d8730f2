"""A message of Python's ``email`` package is written so that every program reads the fields that the caller set."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.mime.text import MIMEText

import pytest

from mailbatch.infrastructure.mime.email_package import message_bytes
from mailbatch.infrastructure.mime.message_envelope import message_envelope
from mailbatch.infrastructure.mime.message_header import header_end, read_header, texts

URL = f"<https://example.org/{'b' * 870}>"
MAILTO = f"<mailto:u@example.org?subject={'t' * 300}>"


def value(data: bytes, name: str) -> str:
    end, _ = header_end(data) or (0, 0)
    [found] = texts(read_header(data[:end]), name.lower())
    return found


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("List-Unsubscribe", URL),
        ("List-Unsubscribe", f"{URL}, {MAILTO}"),
        ("References", " ".join(f"<{'a' * 90}{n}@example.org>" for n in range(5))),
        ("In-Reply-To", f"<{'a' * 200}@example.org>"),
        ("X-Token", "x" * 900),
        ("X-Token", "x" * 990),
    ],
)
def test_a_long_word_of_a_field_stays_one_word(name, given):
    message = EmailMessage()
    message[name] = given
    message.set_content("Hello.\n")
    data = message_bytes(message)
    assert value(data, name) == given
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert message_from_bytes(data)["Content-Type"] == message["Content-Type"]


def test_an_address_with_commas_and_semicolons_in_it_is_not_folded_inside():
    message = MIMEText("Hello.")
    url = f"<https://example.org/?a=1;b=2,c={'b' * 40};d={'c' * 60}>"
    message["List-Unsubscribe"] = url
    assert value(message_bytes(message), "list-unsubscribe") == url


def test_no_recipient_is_lost_where_names_have_to_be_encoded():
    # Python 3.11.7 encodes the comma behind the first name; 3.13.0 writes a blank before the second.
    both = [
        Address("\u00dcn\u00ef" * 4 + "\u00dcn", f"u0{'y' * 16}", "example.org"),
        Address('"quoted" \u00fc', f"u1{'y' * 38}", "example.org"),
    ]
    message = EmailMessage()
    message["To"] = both
    found = message_envelope(message)
    assert found.recipients.count("@") == 2
    read = message_from_bytes(found.message, policy=policy.default)["To"].addresses
    assert [name_and_address(one) for one in read] == [name_and_address(one) for one in both]


def name_and_address(one: Address) -> tuple[str, str]:
    return one.display_name.strip(), one.addr_spec


def test_what_the_package_writes_well_stays_as_it_is():
    message = EmailMessage()
    message["To"], message["Subject"] = "Zo\u00eb <z@example.org>, b@example.org", "Gr\u00fc\u00dfe " * 30
    message["Cc"] = "Team: a@example.org;"
    message["List-Unsubscribe"] = "<https://example.org/u>"
    message.add_alternative("<p>Hello.</p>", subtype="html")
    assert message_bytes(message) == message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def test_what_was_read_from_bytes_is_written_as_it_was():
    data = b"To: =?utf-8?q?a=2C_b?= <a@example.org>\r\nX: " + b"y" * 500 + b"\r\n\r\nHello.\r\n"
    for one in (message_from_bytes(data, policy=policy.default), message_from_bytes(data, policy=policy.SMTP)):
        assert message_bytes(one) == data
