"""Which mails a rule is for."""

from __future__ import annotations

import pytest

from mailbatch.domain.traits import EVERY_MAIL, Match, Names, PriorityIs, Traits

MAIL = Traits(
    tag="newsletter-may",
    priority=10,
    sender_domain="news.example.com",
    recipients={"gmail.com": 1, "example.org": 1},
)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (EVERY_MAIL, True),
        (Match(tag=Names(("newsletter-*",))), True),
        (Match(tag=Names(("newsletter-june", "newsletter-may"))), True),
        (Match(tag=Names(("newsletter",))), False),
        (Match(sender_domain=Names(("*.example.com",))), True),
        (Match(sender_domain=Names(("example.com",))), False),
        (Match(recipient_domain=Names(("gmail.com", "googlemail.com"))), True),
        (Match(recipient_domain=Names(("mail.com",))), False),
        (Match(priority=PriorityIs.read(">= 10")), True),
        (Match(priority=PriorityIs.read("> 10")), False),
        (Match(priority=PriorityIs.read("<11")), True),
        (Match(priority=PriorityIs.read("= -1")), False),
        (Match(tag=Names(("newsletter-*",)), priority=PriorityIs.read("< 0")), False),
    ],
)
def test_a_mail_fits_if_it_has_everything_that_is_named(match, expected):
    assert match.fits(MAIL) is expected


def test_a_mail_without_a_tag_fits_no_rule_for_tags():
    assert not Match(tag=Names(("*",))).fits(Traits())


@pytest.mark.parametrize("text", ["", "10", ">=", ">= ten", "=> 10", ">= 10 and < 20", "!= 3"])
def test_a_comparison_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must be a comparison such as '>= 10'"):
        PriorityIs.read(text)
