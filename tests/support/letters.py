"""Mails that are hard to write, and what Python's ``email`` and Node's ``mailparser`` must read in them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailbatch.application.sending.compose import Compose
from mailbatch.domain.claimed import ClaimedMail
from mailbatch.domain.message import Claim, Message
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.mime.addresses import read_addresses
from mailbatch.infrastructure.mime.compiled import CompiledWriter
from mailbatch.infrastructure.mime.finished import FinishedWriter
from mailbatch.infrastructure.spool import Spool
from mailbatch.infrastructure.templates.renderer import TemplateRenderer

LARGE = 26_214_400
TOKEN = "a" * 900
LONG = "https://example.org/" + "b" * 900

ADDRESSES: dict[str, list[tuple[str, str]]] = {
    '"aaa..b"@docomo.example': [("", '"aaa..b"@docomo.example')],
    'Ann <"a b,c"@example.org>, bob@example.org': [("Ann", '"a b,c"@example.org'), ("", "bob@example.org")],
    f"{'v' * 100}=x.org@example.org": [("", f"{'v' * 100}=x.org@example.org")],
    "ACME (UK) Ltd <a@example.org>": [("ACME (UK) Ltd", "a@example.org")],
    "a@example.org (Ann, at work)": [("Ann, at work", "a@example.org")],
    "bob@example.com <bob@example.com>": [("bob@example.com", "bob@example.com")],
    "Sinéad O\u2019Brien <o'brien@example.org>": [("Sinéad O\u2019Brien", "o'brien@example.org")],
    '"Müller, Zoë; \\"Zo\\"" <zoe@bücher.example>': [('Müller, Zoë; "Zo"', "zoe@xn--bcher-kva.example")],
    '"山田, 太郎" <taro@example.jp>, "=, ?" <b@example.org>': [
        ("山田, 太郎", "taro@example.jp"),
        ("=, ?", "b@example.org"),
    ],
    '"\\=?utf-8?q?x?=" <a@example.org>': [("=?utf-8?q?x?=", "a@example.org")],
}  # fmt: skip
"""Address lists as they are given, and the names and addresses that are read in the mail's To."""

HEADERS: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
    ({"X-Campaign": "Frühling"}, {"X-Campaign": ["Frühling"]}),
    ({"X-Tag": ["a", "b ü"]}, {"X-Tag": ["a", "b ü"]}),
    ({"X-Nothing": []}, {}),
    ({"X-Token": TOKEN}, {"X-Token": [TOKEN]}),
    ({"List-Unsubscribe": f"<{LONG}>"}, {"List-Unsubscribe": [f"<{LONG}>"]}),
    (
        {"List-Unsubscribe": f"<{LONG}>, <mailto:u@example.org?subject={TOKEN}>"},
        {"List-Unsubscribe": [f"<{LONG}>, <mailto:u@example.org?subject={TOKEN}>"]},
    ),
    (
        {
            "List-Unsubscribe": [
                "<https://bücher.example:8080/ä?x={1}&y=100%>",
                "mailto:ü@bücher.example",
            ]
        },
        {
            "List-Unsubscribe": [
                "<https://xn--bcher-kva.example:8080/%C3%A4?x=%7B1%7D&y=100%25>, <mailto:%C3%BC@xn--bcher-kva.example>"
            ]
        },
    ),
    ({"List-Unsubscribe": "https://example.org/u?a=1"}, {"List-Unsubscribe": ["<https://example.org/u?a=1>"]}),
    (
        {"List-Unsubscribe": "<https://example.org/u>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
        {
            "List-Unsubscribe": ["<https://example.org/u>"],
            "List-Unsubscribe-Post": ["List-Unsubscribe=One-Click"],
        },
    ),
    ({"list-help": "<https://example.org/h> (help)"}, {"list-help": ["<https://example.org/h> (help)"]}),
    ({"List-Post": "NO (nobody may)"}, {"List-Post": ["NO (nobody may)"]}),
    ({"List-Id": "Bücher <news.example.org>"}, {"List-Id": ["Bücher <news.example.org>"]}),
    ({"List-Id": "News, daily (UK) <n.example.org>"}, {"List-Id": ['"News, daily (UK)" <n.example.org>']}),
    ({"List-Id": "news.example.org"}, {"List-Id": ["<news.example.org>"]}),
    ({"List-ID": f"{'ä' * 60} <news.example.org>"}, {"List-ID": [f"{'ä' * 60} <news.example.org>"]}),
    ({"Errors-To": "Zoë <zoe@example.org>"}, {"Errors-To": ["Zoë <zoe@example.org>"]}),
    (
        {"Disposition-Notification-To": f"{'Zoë ' * 20}<zoe@example.org>, b@bücher.example"},
        {
            "Disposition-Notification-To": [
                f"{'Zoë ' * 20}<zoe@example.org>, b@xn--bcher-kva.example",
            ]
        },
    ),
    ({"References": "<a@x.org>\t<b@x.org>"}, {"References": ["<a@x.org> <b@x.org>"]}),
    ({"References": ["<a@x.org>", "b@x.org"]}, {"References": ["<a@x.org> <b@x.org>"]}),
    (
        {"References": " ".join(f"<{n}.{'c' * 90}@x.org>" for n in range(40))},
        {"References": [" ".join(f"<{n}.{'c' * 90}@x.org>" for n in range(40))]},
    ),
    ({"References": " "}, {}),
    ({"Keywords": 'Bücher, "a, b", c'}, {"Keywords": ['Bücher , "a, b" , c']}),
    ({"Auto-Submitted": "auto-generated"}, {"Auto-Submitted": ["auto-generated"]}),
    ({"Feedback-ID": f"{'c' * 500}:{'d' * 400}:x"}, {"Feedback-ID": [f"{'c' * 500}:{'d' * 400}:x"]}),
    (
        {"X-SMTPAPI": '{"category": "Bücher 🎉", "a":[1,  2]}'},
        {"X-SMTPAPI": ['{"category": "B\\u00fccher \\ud83c\\udf89", "a":[1,  2]}']},
    ),
    ({"X-Priority": "1 (Highest)"}, {"X-Priority": ["1 (Highest)"]}),
]
"""Extra headers as they are given, and the fields that are read from the mail, with encoded words decoded."""


def no_files(references: Any) -> Any:
    """Stands for ``Enclose`` where no mail has a file."""
    raise AssertionError(references)


def composer(enclose: Any = no_files) -> Compose:
    """Return the use case, made of the real parts."""
    return Compose(
        read_addresses=read_addresses,
        render=TemplateRenderer(None, LARGE),
        enclose=enclose,
        write=CompiledWriter(),
        write_finished=FinishedWriter(Spool().put),
        now=lambda: datetime(2026, 11, 21, 12, tzinfo=UTC),
        max_bytes=LARGE,
        sender="House <house@example.org>",
    )


def composed(enclose: Any = no_files, **fields: Any) -> Message:
    """Return the message of a mail, made by the real parts together."""
    mail = Mail(**({"recipients": "ann@example.org", "subject": "s", "body_text": "t"} | fields))
    claim = Claim(UUID(int=1), 1)
    claimed = ClaimedMail(claim=claim, index=1, mail=mail, message_id="<1@example.org>", attempts=0, earlier={})
    return composer(enclose)(claimed)
