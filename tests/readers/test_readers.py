"""Composed mails as mailparser reads them, the reader of many web mailers: the same people, texts, files and fields."""

from __future__ import annotations

import base64
from email.header import decode_header, make_header

from support.contents import Cut
from support.letters import ADDRESSES, HEADERS, composed

from mailbatch.domain.content_types import content_type_of
from mailbatch.domain.letter import FilePart
from mailbatch.infrastructure.mime.bodies import encoded_file

SCRIPTS = ["山田 太郎", "Σωκράτης", "محمد", "अनुष्का", "Ólafur", "👩‍👩‍👧 & <co>", "ไทย", "=?utf-8?q?x?=", "x" * 300]


def test_who_is_given_is_who_is_read(mailparser):
    read = mailparser([composed(recipients=given).data for given in ADDRESSES])
    for mail, expected in zip(read, ADDRESSES.values(), strict=True):
        # It leaves out the quotes of some local parts, and a name that is the address; it decodes domains.
        assert [(one["name"], _plain(one["address"])) for one in mail["to"]] == [
            ("" if name == spec else name, _plain(spec)) for name, spec in expected
        ]


def test_texts_in_every_script_are_read_as_they_were_meant(mailparser):
    fields = {"subject": "{{ name }}", "body_text": "Dear {{ name }}\n.\n", "body_html": "<p>{{ name }}</p>"}
    read = mailparser([composed(**fields, context={"name": name}).data for name in SCRIPTS])
    for mail, name in zip(read, SCRIPTS, strict=True):
        assert mail["subject"] == name
        assert mail["text"].replace("\r\n", "\n") == f"Dear {name}\n.\n"
        assert mail["html"].startswith("<p>")


def test_extra_fields_are_read_as_they_were_meant(mailparser):
    read = mailparser([composed(headers=headers).data for headers, _ in HEADERS])
    for mail, (_, expected) in zip(read, HEADERS, strict=True):
        for name, values in expected.items():
            lines = [one["line"] for one in mail["lines"] if one["key"] == name.lower()]
            assert [_decoded(line.partition(":")[2]) for line in lines] == values


def test_a_list_and_a_thread_are_understood(mailparser):
    fields = {
        "List-Unsubscribe": ["https://bücher.example/ä", "mailto:off@bücher.example"],
        "List-Id": "Bücher, täglich <news.example.org>",
        "References": [f"<{n}.{'c' * 90}@x.org>" for n in range(20)],
        "In-Reply-To": "<19@x.org>",
    }
    [mail] = mailparser([composed(headers=fields).data])
    found = mail["headers"]["list"]
    assert found["unsubscribe"] == {"url": "https://xn--bcher-kva.example/%C3%A4", "mail": "off@xn--bcher-kva.example"}
    assert (_decoded(found["id"]["name"]), found["id"]["id"]) == ("Bücher, täglich", "news.example.org")
    assert mail["references"] == fields["References"]
    assert mail["inReplyTo"] == "<19@x.org>"


def _plain(spec: str) -> str:
    local, _, domain = spec.replace('"', "").rpartition("@")
    return f"{local}@{domain.encode('idna').decode()}"


def _decoded(value: str) -> str:
    """On one line, encoded words decoded: in fields that it does not know it leaves them."""
    value = value.replace("\r\n", "").strip()
    return str(make_header(decode_header(value))) if "=?utf-8?" in value else value


NAMES = [
    *(
        "invoice.pdf",
        "Rechnung für Zoë.pdf",
        "請求書 山田.pdf",
        "счёт № 17.csv",
        "فاتورة.pdf",
        "חשבון.pdf",
        "👩‍👩‍👧.png",
    ),
    *("a 'quoted' \"name\".txt", "100% (1).txt", "x" * 200 + ".txt", "=?utf-8?q?x?=.txt", "é" * 90 + ".txt"),
]


def test_files_have_their_names_in_every_script(mailparser):
    content = bytes(range(256)) * 300

    def enclose(references):
        encoded = Cut(tuple(encoded_file([content])))
        return tuple(
            FilePart(
                filename=one.name, content_type=content_type_of(one.name), content_id=one.content_id, encoded=encoded
            )
            for one in references
        )

    entries = [{"path": name} for name in NAMES] + [{"path": "logo.png", "content_id": "logo@x"}]
    message = composed(enclose, body_html='<img src="cid:logo@x">', attachments=entries)
    [read] = mailparser([b"".join(message.data.pieces())])
    expected = {(name, content_type_of(name), base64.b64encode(content).decode()) for name in [*NAMES, "logo.png"]}
    assert {tuple(one) for one in read["files"]} == expected
