"""The envelope sender of all mails: it names the reservation, and nobody can forge it."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.client import bounced_reservation
from mailbatch.domain.return_path import ReturnPath

ID = UUID("01977420-0000-7000-8000-000000000001")
SIGNED = ReturnPath("Bounces+{id}.{sig}@Example.com", "a secret of some length")


@given(st.uuids())
def test_the_address_of_a_bounce_names_its_reservation(reservation_id):
    address = SIGNED.address(reservation_id)
    assert SIGNED.reservation_id(address) == reservation_id
    assert SIGNED.reservation_id(f"<{address.upper()}>") == reservation_id


def test_the_signature_is_that_of_any_other_program():
    # printf %s ID | openssl dgst -sha256 -hmac SECRET -binary | head -c 10 | base32 | tr A-Z a-z
    assert ReturnPath("{id}.{sig}@x.org", "k" * 16).address(ID) == f"{ID}.nyufsy44orn7bz6a@x.org"


@pytest.mark.parametrize(
    "address",
    [
        SIGNED.address(UUID(int=1)).replace(str(UUID(int=1)), str(UUID(int=2))),
        ReturnPath(SIGNED.text, "another secret here").address(ID),
        f"bounces+{ID}.@example.com",
        f"bounces+{ID}@example.com",
        f"bounces+{ID}.aaaaaaaaaaaaaaaa@evil.example.com",
        "ann@example.com",
        "",
        "<>",
        "\u0130" * 300,
    ],
)
def test_an_address_that_we_did_not_write_names_none(address):
    assert SIGNED.reservation_id(address) is None


def test_without_a_signature_the_id_is_believed_and_without_an_id_there_is_none():
    assert bounced_reservation(f"b+{ID}@x.org", return_path="b+{id}@x.org") == ID
    assert bounced_reservation("b@x.org", return_path="b@x.org") is None
    assert ReturnPath("b@x.org").address(ID) == "b@x.org"
    assert ReturnPath("<>").address(ID) == ""


@pytest.mark.parametrize("text", ["{ID}@x.org", "{id}{id}@x.org", "{sig}@x.org", "{@x.org", "{id}}@x.org", "{}@x"])
def test_other_placeholders_are_refused(text):
    with pytest.raises(ValueError, match=r"\{sig\}"):
        ReturnPath(text, "secret")


def test_a_signature_needs_a_secret_which_is_never_shown():
    with pytest.raises(ValueError, match="needs a secret"):
        ReturnPath("{id}{sig}@x.org")
    assert "length" not in repr(SIGNED)
