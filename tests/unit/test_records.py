"""Reading CSV and JSON Lines: what each line asks for, and how each bad one is named."""

from __future__ import annotations

import csv
import io
import itertools
import json
from datetime import UTC, datetime
from uuid import UUID

import jinja2
import pytest

from mailbatch.application.acting import csv_records, jsonl_records
from mailbatch.application.acting.columns import COLUMNS, OWN, meant, variable
from mailbatch.application.acting.csv_records import read_csv
from mailbatch.application.acting.jsonl_records import read_jsonl
from mailbatch.application.acting.records import BadLine, Record, UnreadableFile
from mailbatch.domain.reservation import Mail


def of_csv(text: str | bytes, *variables: str) -> list[Record | BadLine]:
    return list(read_csv(io.BytesIO(text if isinstance(text, bytes) else text.encode()), variables))


def of_jsonl(*values: object, variables: tuple[str, ...] = ()) -> list[Record | BadLine]:
    lines = (v if isinstance(v, bytes) else json.dumps(v).encode() for v in values)
    return list(read_jsonl(io.BytesIO(b"\n".join(lines)), variables))


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
        ("to,subject", "names no column recipients, but 'to,subject'; did you mean recipients where it says 'to'"),
        (
            "E-Mail;Subject",
            "did you mean recipients where it says 'E-Mail'.*'Subject' is no column; did you mean subject",
        ),
        ("Recipient E-Mail,name", "did you mean recipients where it says 'Recipient E-Mail'"),
        ('recipients,"open', "line 1: a quoted cell that begins here has no end"),
        ('"Name";"City"', 'names no column recipients, but \'"Name";"City"\''),
        ("recipients,a b,a-b,x", "the columns 'a b' and 'a-b' are all the variable a_b; rename them"),
        ("recipients,subject,subject", "names the column 'subject' twice"),
        ("recipients,name,name", "names the column 'name' twice"),
        ("recipients,status", "the column status is mailbatch's own"),
    ],
)
def test_a_header_that_cannot_be_is_refused(header, said):
    with pytest.raises(UnreadableFile, match=said):
        of_csv(header + "\n")


MEANT = {
    "recipients": "Recipients|recipient|Recipents|to|TO",
    "cc": "CC|Cc|ccs|CC1|cc_list|carbon copy|Copy-To",
    "bcc": "Bcc|BCC|bccs|Bcc 2|bcc-list|Blind Copy|hidden copy",
    "sender": "Sender|from|From|From-Address|from_addr|From Mail",
    "reply_to": "Reply-To|reply to|ReplyTo|replyto|Reply_to|reply\u200b_to",
    "subject": "Subject|SUBJECT|subjects|Subject line",
    "body_text": "text|body|Body Text|bodytext|body-text",
    "body_html": "html|HTML|Body HTML|bodyHtml",
    "scheduled_at": "Scheduled_At|scheduled at|scheduledAt|SCHEDULED-AT|schedule_at|sheduled_at|send_at|Send At|at|"
    "deliver_at|send time|send_datetime|ScheduledDateTime|send_at_utc|scheduled|\uff53cheduled_at",
    "expires_at": "expires|Expires_At|expire_at|expires_at_utc|Expire Date|expiry|not after",
    "priority": "Priority|prio|priorty",
    "idempotency_key": "key|Idempotency-Key|idempotencykey|idempotency_keys",
    "tag": "Tag|TAG|tags",
    "template": "Template|templates|template-name",
    "headers": "Headers|header|custom_headers",
    "attachments": "Attachments|attachment|attach|Attached files|attachment_path",
    "context": "Context|CONTEXT",
    "id": "ID|Id|uuid",
}


@pytest.mark.parametrize(
    ("column", "name"),
    [(column, name) for column, names in MEANT.items() for name in names.split("|")],
)
def test_a_name_that_is_nearly_a_columns_is_meant_for_it(column, name):
    assert meant(name) == column
    if column != "recipients":
        with pytest.raises(UnreadableFile, match=f"is no column; did you mean {column}\\?"):
            of_csv(f"recipients,{name}\na@x.org,x\n")


def test_no_other_name_is_taken_for_a_columns():
    others = (
        "name city email lang title date time when due amount order gender render contact contest readers object place"
    )
    others += (
        " text2 minutes interest link sentence sender_name recipient_name subject_id message company country state"
    )
    assert [name for name in (*others.split(), *COLUMNS, *OWN) if meant(name)] == []


def test_a_file_with_names_that_are_nearly_columns_is_refused_before_its_first_row_and_all_are_named():
    found = read_csv(io.BytesIO(b"recipients,CC,Scheduled At,subject,body_text\na@x.org,b@x.org,x,s,t\n"))
    with pytest.raises(UnreadableFile) as caught:
        next(found)
    assert caught.value.problems == [
        "line 1: 'CC' is no column; did you mean cc? Rename it, or say that it is a variable: --context-column 'CC'",
        (
            "line 1: 'Scheduled At' is no column; did you mean scheduled_at? Rename it, or say that it is a variable: "
            "--context-column 'Scheduled At'"
        ),
    ]


def test_a_column_that_is_said_to_be_a_variable_is_one():
    text = "recipients,subject,body_text,from,Send At,status,cc\na@x.org,s,t,Ann,noon,new,x\n"
    draft = only(of_csv(text, "from", "Send At", "status", "cc")).draft
    assert draft.mail.context == {"from": "Ann", "Send_At": "noon", "status": "new", "cc": "x"}
    assert (draft.mail.sender, draft.mail.cc, draft.scheduled_at) == (None, None, None)
    with pytest.raises(UnreadableFile, match="names no column 'form', as --context-column does"):
        of_csv(text, "form")
    with pytest.raises(UnreadableFile, match="recipients says to whom the mails go"):
        of_csv(text, "recipients")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("First Name", "First_Name"),
        ("Prénom", "Prénom"),
        ("नाम", "नाम"),
        ("Price (€)", "Price"),
        ("2nd line", "_2nd_line"),
        ("a-b.c", "a_b_c"),
        ("€", "column_7"),
        ("_", "_"),
        ("not", "not_"),
        ("None", "None_"),
        ("class", "class"),
    ],
)
def test_a_column_that_is_no_identifier_becomes_a_variable_that_a_template_can_name(name, found):
    assert variable(name, 7) == found
    text = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True).from_string(f"{{{{ {found} }}}}")
    assert text.render({found: "x"}) == "x"


def test_a_column_whose_variable_has_another_name_is_said():
    said: list[str] = []
    text = 'recipients,subject,body_text,"First\r\nName",city\na@x.org,s,t,Ann,Rome\nb@x.org,s\n'
    found = list(read_csv(io.BytesIO(text.encode()), (), said.append))
    assert only(found[:1]).draft.mail.context == {"First_Name": "Ann", "city": "Rome"}
    assert said == ["the column 'First Name' is the variable First_Name"]
    # The names take two lines, and so they are counted.
    assert reasons(found) == {4: ("has 2 cells, line 1 names 5 columns",)}


@pytest.mark.parametrize("end", ["\x1a", "\x1a\r\n", "\x1a\x1a"])
@pytest.mark.parametrize("before", ["", "\n", "\r\n", "\n,,,,\n\n , ,,,\n"])
def test_what_spreadsheets_and_old_programs_leave_at_the_end_is_no_row(before, end):
    text = f"recipients,subject,body_text,,\na@x.org,s,t,,{before}{end}"
    assert only(of_csv(text)).draft.mail == Mail(recipients="a@x.org", subject="s", body_text="t")
    line = json.dumps({"recipients": "a@x.org", "subject": "s", "body_text": "t"})
    assert only(of_jsonl((line + before.replace(",", "") + end).encode())).draft.mail.body_text == "t"


def test_text_under_any_column_without_a_name_makes_a_line_bad():
    found = of_csv("recipients,,subject,body_text,\na@x.org,x,s,t,\nb@x.org,,s,t,x\nc@x.org, ,s,t,\nd@x.org,,s,t,,,\n")
    assert reasons(found) == {
        2: ("has a cell under a column without a name",),
        3: ("has a cell under a column without a name",),
    }
    assert [record.draft.mail.recipients for record in found if isinstance(record, Record)] == ["c@x.org", "d@x.org"]


def test_a_stray_quote_among_the_names_costs_no_row():
    found = of_csv('recipients,subject,body_text,5" disk\na@x.org,s,t,x\nb@x.org,s,t,"y"\n')
    assert [record.draft.mail.context for record in found if isinstance(record, Record)] == [
        {"_5_disk": "x"},
        {"_5_disk": "y"},
    ]


def test_a_quote_that_is_never_closed_costs_the_rest_and_says_so():
    found = of_csv('recipients,body_text\na@x.org,ok\nb@x.org,"open\nc@x.org,gone\n')
    assert isinstance(found[0], Record)
    assert "a quoted cell that begins here has no end; lines 3 to 4" in reasons(found)[3][0]


def test_a_stray_quote_costs_its_line_alone():
    found = of_csv('recipients,body_text\na@x.org,"say "hi" now"\nb@x.org,ok\n')
    assert "is no CSV" in reasons(found)[2][0]
    assert only(found[1:]).draft.mail.recipients == "b@x.org"


def test_a_body_may_be_larger_than_the_csv_module_likes():
    body = "x" * 500_000
    assert only(of_csv(f"recipients,body_text\na@x.org,{body}\n")).draft.mail.body_text == body


def test_what_has_no_line_ends_is_not_read_whole(monkeypatch):
    monkeypatch.setattr(csv_records, "LONGEST_LINE", 1000)

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


def test_a_key_that_is_nearly_a_columns_costs_the_file_before_its_first_line_wherever_it_stands():
    good = {"recipients": "a@x.org", "subject": "s", "body_text": "t"}
    with pytest.raises(UnreadableFile) as caught:
        of_jsonl(good, good, b"{", {**good, "CC": "b@x.org"}, {**good, "CC": "b@x.org", "send_at": "x"})
    assert [problem.partition("?")[0] for problem in caught.value.problems] == [
        "line 4: 'CC' is no column; did you mean cc",
        "line 5: 'send_at' is no column; did you mean scheduled_at",
    ]
    found = of_jsonl({**good, "CC": "b", "context": {"n": 1}}, variables=("CC",))
    assert only(found).draft.mail.context == {"CC": "b", "n": 1}


def test_from_a_pipe_a_key_that_is_nearly_a_columns_costs_its_line():
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    lines = b'{"recipients": "a@x.org"}\n{"recipients": "a@x.org", "send_at": "x"}\n'
    assert reasons(list(read_jsonl(Pipe(lines)))) == {
        2: ("'send_at': is no column; did you mean scheduled_at? What a template needs belongs into context",)
    }


def test_a_line_in_which_all_is_empty_is_passed_over_as_a_row_of_commas_is():
    empty = {"recipients": "", "subject": " ", "body_text": None}
    found = of_jsonl({"recipients": "a@x.org"}, empty, {}, {**empty, "tag": "t"})
    assert [record.line for record in found] == [1, 3, 4]


def test_an_empty_text_is_not_given_where_none_may_stand_and_stays_in_the_context():
    empty = dict.fromkeys(("id", "context", "headers", "scheduled_at", "expires_at", "priority"), "")
    draft = only(of_jsonl({"recipients": "a@x.org", "subject": "s", "body_text": "t", **empty})).draft
    assert (draft.id, draft.scheduled_at, draft.expires_at, draft.priority, draft.mail.context) == (
        None,
        None,
        None,
        0,
        None,
    )
    assert only(of_jsonl({"recipients": "a@x.org", "context": {"city": ""}})).draft.mail.context == {"city": ""}


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
    monkeypatch.setattr(jsonl_records, "LONGEST_LINE", 2**20)
    chunks = itertools.chain([b'{"recipients": "' + b"x" * 3_000_000 + b'"}\n'], [b'{"recipients": "b@x.org"}\n'])
    found = list(read_jsonl(io.BytesIO(b"".join(chunks))))
    assert reasons(found) == {1: ("the line has more than 1 MB",)}
    assert isinstance(found[1], Record)
    assert found[1].line == 2


def test_who_stops_early_may_close_the_file_first():
    file = io.BytesIO(b"recipients,subject,body_text\na@x.org,s,t\nb@x.org,s,t\n")
    reading = read_csv(file)
    next(reading)
    file.close()
    reading.close()
