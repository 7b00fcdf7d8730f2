"""Mails that are at fault themselves, each among others that are well (rows 7 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faults.fault import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEADER = "one line\r\nBcc: victim@faults.example"


def odd(of: Mapping[int, Any], usual: Callable[[int], Any]) -> Callable[[int], Any]:
    """The column of a mail: what ``of`` says of it, or what is usual."""
    return lambda i: of[i] if i in of else usual(i)


def body(i: int) -> str:
    return f"This is {i}."


MAILS = [
    Fault(
        row="7a",
        name="templates that fail, loop, multiply and pad",
        columns={
            "context": {"name": "Ann"},
            "body_text": odd(
                {
                    1: "{{ nothing }}",
                    4: "{% if %}",
                    7: "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
                    10: "{{ 'x' * 900000000 }}",
                    13: "{{ 10 ** 10000000 }}",
                    16: "{{ name.center(500000000) }}",
                    19: "{{ ''.__class__.__mro__[1].__subclasses__() }}",
                },
                body,
            ),
        },
        ends={"sent": 17, "failed": 7},
    ),
    Fault(
        row="7b",
        name="addresses that are none, and one that nobody can write",
        columns={
            "recipients": odd(
                {2: "nobody", 5: "a@b@faults.example", 8: f"{'x' * 255}@faults.example", 11: "<>"},
                lambda i: f"7b-{i}@faults.example",
            )
        },
        ends={"sent": 20, "failed": 4},
    ),
    Fault(
        row="7c",
        name="a body of 30 MB, a thousand recipients",
        mails=6,
        columns={
            "body_text": odd({1: "line\n" * 6_000_000}, body),
            "recipients": odd(
                {3: ", ".join(f"7c-3-{n}@faults.example" for n in range(1000))}, lambda i: f"7c-{i}@faults.example"
            ),
        },
        ends={"sent": 5, "failed": 1},
        lasts=10.0,
    ),
    Fault(
        row="7d",
        name="ten thousand recipients",
        mails=6,
        columns={
            "recipients": odd(
                {1: ", ".join(f"7d-1-{n}@faults.example" for n in range(10_000))}, lambda i: f"7d-{i}@faults.example"
            )
        },
        lasts=20.0,
        short=False,
    ),
    Fault(
        row="7e",
        name="contexts of 10 MB, one of long texts and one of 200,000 names",
        columns={
            "context": odd(
                {1: {"texts": ["x" * 1000] * 10_000}, 4: {f"n{n}": "x" * 40 for n in range(200_000)}}, lambda _: {}
            ),
            "body_text": odd({1: "{{ texts | length }}", 4: "{{ n199999 }}"}, body),
        },
        # Python reads such a text in one go; on a busy machine that can take longer than these houses' locks live.
        doubtful=None,
        lasts=20.0,
        short=False,
    ),
    Fault(
        row="8a",
        name="line breaks and names of headers in subjects, senders and headers",
        columns={
            "subject": odd({1: HEADER, 3: "one\x0bline", 5: "one\u2028line"}, lambda i: f"8a {i}"),
            "sender": odd(
                {7: f"a@faults.example{HEADER}", 9: "a@faults.example\nBcc: b@faults.example"}, lambda _: None
            ),
            "headers": odd(
                {11: {"X-One\r\nBcc": "v"}, 13: {"X-One": HEADER}, 15: {"Bcc": "v@faults.example"}}, lambda _: None
            ),
        },
        ends={"sent": 16, "failed": 8},
    ),
    Fault(
        row="8b",
        name="bodies with bare line feeds and with what looks like their end (smuggling)",
        columns={
            "body_text": lambda i: f"{i}\n.\nMAIL FROM:<a@b.example>\r\n.\r\nRCPT TO:<v@faults.example>\r.\r\nend"
        },
        mails=12,
    ),
]
