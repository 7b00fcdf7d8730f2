"""Reading CSV and JSON Lines: what each line asks for, and how each bad one is named."""

from __future__ import annotations

import csv
import io
import itertools
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from mailbatch.application import records
from mailbatch.application.records import BadLine, Record, UnreadableFile, read_csv, read_jsonl
from mailbatch.domain.reservation import Mail


def of_csv(text: str | bytes) -> list[Record | BadLine]:
    return list(read_csv(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def of_jsonl(*values: object) -> list[Record | BadLine]:
    lines = (v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)
    return list(read_jsonl(io.BytesIO(b"\n".join(lines))))


def only(found: list[Record | BadLine]) -> Record:
    [record] = found
    assert isinstance(record, Record)
    return record


def reasons(found: list[Record | BadLine]) -> dict[int, tuple[str, ...]]:
    return {bad.line: bad.reasons for bad in found if isinstance(bad, BadLine)}


# --- CSV ---


def test_columns_of_the_table_are_fields_and_all_others_are_context():
    text = (
        "id,recipients,cc,subject,body_text,headers,scheduled_at,priority,tag,idempotency_key,context,name,city\n"
        '01a1fc13-5b7f-765d-b8e1-ae4a84d64a17,a@x.org,,Hi,Text,"{""X-A"": ""1""}",2026-12-01T09:00:00+09:00,'
        '-5,t,k,"{""n"": 1}",Ada,\n'
    )
    draft = only(of_csv(text)).draft
    assert draft.id == UUID("01a1fc13-5b7f-765d-b8e1-ae4a84d64a17")
    assert draft.mail == Mail(
        recipients="a@x.org",
        subject="Hi",
        body_text="Text",
        headers={"X-A": "1"},
        # An empty cell of theirs is an empty text: a template's variable must be there to be asked for.
        context={"name": "Ada", "city": "", "n": 1},
    )
    assert draft.scheduled_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert (draft.priority, draft.tag, draft.idempotency_key) == (-5, "t", "k")


def test_an_empty_cell_of_ours_is_not_given():
    draft = only(of_csv("recipients,subject,body_text,scheduled_at,priority,context\na@x.org,Hi,T,,,\n")).draft
    assert (draft.scheduled_at, draft.priority, draft.mail.context) == (None, 0, None)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_files_of_any_spreadsheet_are_read(ends, mark, comma):
    rows = [["recipients", "subject", "body_text"], ["a@x.org", "Grüße", f"one{ends}two"]]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=comma, lineterminator=ends).writerows(rows)
    assert only(of_csv(mark + out.getvalue())).draft.mail == Mail(
        recipients="a@x.org", subject="Grüße", body_text=f"one{ends}two"
    )


def test_formulas_are_text():
    draft = only(of_csv('recipients,subject,body_text\na@x.org,=1+1,"=HYPERLINK(""x"")"\n')).draft
    assert (draft.mail.subject, draft.mail.body_text) == ("=1+1", '=HYPERLINK("x")')


def test_a_record_is_named_by_the_line_on_which_it_begins():
    text = 'recipients,body_text\na@x.org,"1\n2\n3"\n\nb@x.org\nc@x.org,"1\n2",too many\nd@x.org,last\n'
    found = of_csv(text)
    assert [record.line for record in found] == [2, 6, 7, 9]
    assert reasons(found) == {
        6: ("has 1 cells, line 1 names 2 columns",),
        7: ("has 3 cells, line 1 names 2 columns",),
    }


def test_a_line_that_is_not_utf_8_is_named_and_the_others_are_read():
    text = "recipients,subject,body_text\na@x.org,Grüße,x\nb@x.org,Grüße,x\n".encode()
    found = of_csv(text.replace("Grüße".encode(), "Grüße".encode("latin-1"), 1))
    assert reasons(found) == {2: ("subject: is not UTF-8 (byte 0xFC)",)}
    assert isinstance(found[1], Record)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_unicode_is_refused_at_once(encoding):
    with pytest.raises(UnreadableFile, match="line 1: is not UTF-8"):
        of_csv("recipients,subject,body_text\na@x.org,s,t\n".encode(encoding))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "the file is empty"),
        ("to,subject", "names no column recipients, but 'to,subject'"),
        ("recipients,subject,subject", "names the column 'subject' twice"),
        ("recipients,name,name", "names the column 'name' twice"),
        ("recipients,status", "the column status is mailbatch's own"),
    ],
)
def test_a_header_that_cannot_be_is_refused(header, said):
    with pytest.raises(UnreadableFile, match=said):
        of_csv(header + "\n")


def test_a_quote_that_is_never_closed_costs_the_rest_and_says_so():
    found = of_csv('recipients,body_text\na@x.org,ok\nb@x.org,"open\nc@x.org,gone\n')
    assert isinstance(found[0], Record)
    assert "a quoted cell that begins here ends nowhere; lines 3 to 4" in reasons(found)[3][0]


def test_a_stray_quote_costs_its_line_alone():
    found = of_csv('recipients,body_text\na@x.org,"say "hi" now"\nb@x.org,ok\n')
    assert "is no CSV" in reasons(found)[2][0]
    assert only(found[1:]).draft.mail.recipients == "b@x.org"


def test_a_body_may_be_larger_than_the_csv_module_likes():
    body = "x" * 500_000
    assert only(of_csv(f"recipients,body_text\na@x.org,{body}\n")).draft.mail.body_text == body


def test_what_has_no_line_ends_is_not_read_whole(monkeypatch):
    monkeypatch.setattr(records, "LONGEST_LINE", 1000)

    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:
            header = b"recipients,body_text\n" if self.given == 0 else b"x" * len(buffer)
            buffer[: len(header)] = header
            self.given += len(header)
            return len(header)

    endless = Endless()
    assert isinstance(next(read_csv(io.BufferedReader(endless))), BadLine)
    assert endless.given < 1_000_000


@pytest.mark.parametrize(
    ("name", "cell", "said"),
    [
        ("scheduled_at", "2026-12-01T09:00:00", "scheduled_at: 2026-12-01T09:00:00 has no time zone"),
        ("scheduled_at", "2026-12-01", "scheduled_at: 2026-12-01T00:00:00 has no time zone"),
        ("scheduled_at", "10000-01-01T00:00:00Z", "scheduled_at: '10000-01-01T00:00:00Z' is no time in ISO 8601"),
        ("scheduled_at", "9999-12-31T00:00:00Z", "scheduled_at: 9999-12-31T00:00:00+00:00 is outside 1970–9999"),
        ("expires_at", "1969-12-31T23:59:59Z", "expires_at: 1969-12-31T23:59:59+00:00 is outside 1970–9999"),
        ("expires_at", "infinity", "expires_at: 'infinity' is no time"),
        ("scheduled_at", "2026-12-01 09:00 Mars/Olympus", "is no time in ISO 8601"),
        ("priority", "urgent", "priority: 'urgent' is no integer"),
        ("priority", "1.5", "priority: '1.5' is no integer"),
        ("priority", "\uff11", "is no integer"),
        ("headers", "X: y", "headers: 'X: y' is no JSON object"),
        ("headers", "[]", "headers: '[]' is no JSON object"),
        ("context", '{"a": NaN}', "NaN is no JSON"),
        ("id", "7", "id: '7' is no UUID"),
    ],
)
def test_a_cell_that_does_not_fit_its_column_is_named(name, cell, said):
    out = io.StringIO()
    csv.writer(out).writerows([["recipients", "subject", "body_text", name], ["a@x.org", "s", "t", cell]])
    [(line, [reason])] = reasons(of_csv(out.getvalue())).items()
    assert line == 2
    assert said in reason


# --- JSON Lines ---


def test_json_lines_have_the_tables_names_and_types():
    value = {
        "recipients": ["a@x.org", "B <b@x.org>"],
        "cc": "c@x.org",
        "template": "t",
        "context": {"deep": [1, {"n": None}]},
        "scheduled_at": "2026-12-01T00:00:00Z",
        "priority": 3,
        "tag": None,
    }
    draft = only(of_jsonl(value)).draft
    assert draft.mail == Mail(
        recipients="a@x.org, B <b@x.org>", cc="c@x.org", template="t", context={"deep": [1, {"n": None}]}
    )
    assert (draft.priority, draft.tag) == (3, None)


def test_a_byte_order_mark_and_empty_lines_do_no_harm():
    found = of_jsonl(b'\xef\xbb\xbf{"recipients": "a@x.org"}', b"", b"  \r", b'{"recipients": "b@x.org"}\r')
    assert [record.line for record in found] == [1, 4]
    assert reasons(found) == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no JSON object"),
        (b'{"recipients": "Gr\xfc\xdfe"}', "is not UTF-8 (byte 0xFC at position 19)"),
        (b'{"recipients": 5}', "recipients: '5' is not text"),
        (b'{"recipients": ["a@x.org", 5]}', "is not text"),
        (b'{"recipients": "a@x.org", "priority": true}', "priority: 'true' is not an integer"),
        (b'{"recipients": "a@x.org", "priority": 1.0}', "is not an integer"),
        (b'{"recipients": "a@x.org", "context": [1]}', "context: '[1]' is not a JSON object"),
        (b'{"recipients": "a@x.org", "context": {"x": Infinity}}', "Infinity is no JSON"),
        (b'{"recipients": "a@x.org", "subjekt": "x"}', "'subjekt': is no column"),
        (b'{"recipients": "a@x.org", "status": "sent"}', "status: is mailbatch's own"),
        (b'{"recipients": "a@x.org", "scheduled_at": 1700000000}', "scheduled_at: '1700000000' is not text"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"recipients": "a@x.org", "priority": ' + b"9" * 5000 + b"}", "is no JSON"),
    ],
)
def test_a_line_that_is_no_reservation_is_named(line, said):
    found = of_jsonl(b'{"recipients": "a@x.org"}', line, b'{"recipients": "a@x.org"}')
    [(number, [reason])] = reasons(found).items()
    assert number == 2
    assert said in reason


def test_a_line_without_an_end_is_passed_over(monkeypatch):
    monkeypatch.setattr(records, "LONGEST_LINE", 2**20)
    chunks = itertools.chain([b'{"recipients": "' + b"x" * 3_000_000 + b'"}\n'], [b'{"recipients": "b@x.org"}\n'])
    found = list(read_jsonl(io.BytesIO(b"".join(chunks))))
    assert reasons(found) == {1: ("the line has more than 1 MB",)}
    assert isinstance(found[1], Record)
    assert found[1].line == 2
