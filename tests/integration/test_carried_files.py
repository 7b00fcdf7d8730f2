"""What a mail carries, through every door: all say the same, and none reads the content of a file for it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from support.api import Api
from support.backlogs import database
from support.pages import Browser

from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.interfaces.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

INVOICE = b"%PDF-1.7 " + bytes(range(256)) * 300
CALENDAR = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"


@pytest.fixture
def settings(database_url, redis_url, tmp_path) -> dict[str, Any]:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "invoice.pdf").write_bytes(INVOICE)
    for folder in ("hi", "hi/pt"):
        (tmp_path / "templates" / folder).mkdir(parents=True)
        for name in ("subject.txt", "body.txt"):
            (tmp_path / "templates" / folder / name).write_text(f"of {folder}", encoding="utf-8")
    return {
        "database_url": database_url,
        "redis_url": redis_url,
        "attachment_dir": tmp_path / "files",
        "template_dir": tmp_path / "templates",
        "sender": "Shop <shop@example.com>",
        "return_path": "bounces+{id}@example.com",
    }


@pytest.fixture
def api(settings) -> Iterator[Api]:
    with Api(settings) as api:
        yield api


@pytest.fixture
def say(settings, monkeypatch):
    """The command line, in this process."""
    for name, value in settings.items():
        monkeypatch.setenv(f"MAILBATCH_{name.upper()}", str(value))

    def run(*args: str) -> str:
        result = CliRunner().invoke(cli, list(args))
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def statements(api) -> Iterator[list[str]]:
    """The statements that the server executes, from here on."""
    found = list[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    sa.event.listen(api.parts.engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(api.parts.engine, "before_cursor_execute", note)


def add(url: str, **columns: Any) -> UUID:
    own = uuid4()
    row = {"id": own, "recipients": "ann@example.org", "subject": "Hello", "body_text": "Hello", **columns}
    with database(url) as connection:
        connection.execute(sa.insert(mail_reservations).values(row))
    return own


@pytest.fixture
def full(api, database_url) -> tuple[UUID, str]:
    """A mail with a file of each kind, and the id of the stored one."""
    with api.parts.stores.reservations.intake() as intake:
        terms = intake.store_file(b"terms " * 1000, "terms.pdf", "application/pdf")
    calendar = {"content": b64encode(CALENDAR).decode(), "content_type": "text/calendar; method=REQUEST"}
    attachments = [
        {"path": "invoice.pdf", "filename": "Rechnung März.pdf"},
        {"file": terms},
        {**calendar, "filename": "invite.ics"},
        {"path": "absent.pdf"},
    ]
    return add(database_url, attachments=attachments, locale="de-AT"), terms


def test_every_door_shows_the_same_files_language_and_envelope_sender(api, say, full):
    own, terms = full
    told = api.client.get(f"/api/reservations/{own}").json()
    assert json.loads(say("show", str(own), "--json"))["files"] == told["files"]
    assert [(one["source"], one["filename"], one["size"]) for one in told["files"]] == [
        ("path", "Rechnung März.pdf", len(INVOICE)),
        ("file", "terms.pdf", 6000),
        ("content", "invite.ics", len(CALENDAR)),
        ("path", "absent.pdf", None),
    ]
    returns_to = f"bounces+{own}@example.com"
    assert (told["returns_to"], told["locale"]) == (returns_to, "de-AT")
    line = " ".join(say("show", str(own)).split())
    page = Browser(api.client).open(f"/reservations/{own}")
    for text in ("Rechnung März.pdf", "terms.pdf", "invite.ics", "absent.pdf: is not there", returns_to, "de-AT"):
        assert text in line, text
        assert text in page, text
    assert terms in line
    assert "path invoice.pdf" in line
    # A name, or a text, that is written from right to left turns nothing beside it.
    assert "<bdi>Rechnung März.pdf</bdi></a>" in page.html
    assert '<pre class="mail" dir="auto"' in page.html
    explained = say("explain", str(own))
    facts = api.client.get(f"/api/reservations/{own}/explain").json()["facts"]
    assert (facts["language"], facts["returns_to"]) == ("de-AT", returns_to)
    for text in (*facts["attachments"], "Rechnung März.pdf", "absent.pdf: is not there", returns_to, "de-AT"):
        assert text in explained, text


def test_the_plan_shows_what_each_mail_carries(api, say, full):
    own, _ = full
    [first] = api.get("/api/plan")["first"]
    assert json.loads(CliRunner().invoke(cli, ["plan", "--json"]).stdout)["first"] == [first]
    told = api.get(f"/api/reservations/{own}")
    assert {name: first[name] for name in ("files", "locale", "served_in", "returns_to")} == {
        name: told[name] for name in ("files", "locale", "served_in", "returns_to")
    }
    assert (first["id"], first["errors"]) == (str(own), ["attachments: absent.pdf: is not there"])
    line = " ".join(CliRunner().invoke(cli, ["plan"]).output.split())
    page = Browser(api.client).open("/schedule/plan")
    for text in ("Rechnung März.pdf", "terms.pdf", "invite.ics", "language de-AT", f"returned to bounces+{own}@"):
        assert text in line, text
        assert text in page, text
    assert f"{len(INVOICE)} bytes, path invoice.pdf" in line
    assert "and 1 more file" in page


def test_every_door_shows_the_language_that_serves_a_mail(api, say, database_url):
    own = add(database_url, subject=None, body_text=None, template="hi", locale="pt-BR")
    told = api.get(f"/api/reservations/{own}")
    preview = api.get(f"/api/reservations/{own}/preview")
    assert preview == api.post("/api/preview", {"template": "hi", "locale": "pt-BR"})
    assert preview == json.loads(say("preview", str(own), "--json"))
    assert told["served_in"] == preview["served_in"] == ["pt"]
    text = "pt-BR (served by pt)"
    assert api.get(f"/api/reservations/{own}/explain")["facts"]["language"] == text
    for said in (say("show", str(own)), say("explain", str(own)), say("preview", str(own)), say("plan")):
        assert text in " ".join(said.split())
    assert text in Browser(api.client).open(f"/reservations/{own}")


def test_a_mail_without_a_language_of_a_template_without_one_is_said_to_have_none(api, say, database_url):
    own = add(database_url, subject=None, body_text=None, template="hi")
    assert api.get(f"/api/reservations/{own}/preview")["served_in"] == []
    assert "language" not in api.get(f"/api/reservations/{own}/explain")["facts"]
    assert "Language" not in Browser(api.client).open(f"/reservations/{own}").text


def test_a_list_renders_subjects_in_the_language_of_their_mails(api, database_url):
    add(database_url, subject=None, body_text=None, template="hi", locale="pt-BR")
    assert "of hi/pt" in Browser(api.client).open("/reservations")


def test_showing_a_mail_costs_one_statement_for_its_files_and_reads_none_of_them(api, full, statements):
    api.client.get(f"/api/reservations/{full[0]}")
    of_files = [one for one in statements if "mail_files" in one]
    assert len(of_files) == 1
    assert not re.search(r"\bcontent\b", of_files[0])


def test_a_mail_without_files_costs_no_statement_for_them(api, database_url, statements):
    own = add(database_url)
    told = api.client.get(f"/api/reservations/{own}").json()
    assert told["files"] == []
    assert not [one for one in statements if "mail_files" in one]


def test_each_file_can_be_saved_from_the_page(api, full):
    page = Browser(api.client).open(f"/reservations/{full[0]}")
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and "download" in attributes]
    answers = [api.client.get(link) for link in links if "/files/" in link]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert [answer.content for answer in answers[:3]] == [INVOICE, b"terms " * 1000, CALENDAR]
    for answer in answers[:3]:
        assert answer.headers["Content-Disposition"].startswith("attachment; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "M%C3%A4rz" in answers[0].headers["Content-Disposition"]


def test_a_column_that_holds_no_files_is_said_to(api, say, database_url):
    own = add(database_url, attachments=[{"paht": "x"}, "y"])
    told = " ".join(say("show", str(own)).split())
    page = Browser(api.client).open(f"/reservations/{own}")
    for line in ("the key 'paht' is not known", "number 2 is str, not an object"):
        assert line in told
        assert line in page


# --- finished messages ---

HTML = (
    '<p>Dear Zoë</p><img src="cid:logo@x"><script>parent.location="https://evil.example"</script><link rel=preconnect>'
)


def eml(subject: str = "Grüße aus Wien") -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Shop <shop@example.com>", "ann@example.org", subject
    message.set_content("Dear Zoë")
    message.add_alternative(HTML, subtype="html")
    message.get_body(("html",)).add_related(b"PNG!", "image", "png", cid="<logo@x>")
    message.add_attachment(INVOICE, maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    return message.as_bytes()


def test_every_list_shows_the_subject_of_a_finished_message_and_reads_only_its_beginning(
    api, say, database_url, statements
):
    own = add(database_url, message=eml(), subject=None, body_text=None)
    assert "Grüße aus Wien" in Browser(api.client).open("/reservations")
    assert len([one for one in statements if "substr" in one]) == 1
    [item] = api.client.get("/api/reservations").json()["items"]
    assert (item["id"], item["subject"]) == (str(own), "Grüße aus Wien")
    assert json.loads(say("list", "--json"))[0]["subject"] == "Grüße aus Wien"
    detail = api.client.get(f"/api/reservations/{own}").json()
    assert detail["subject"] == "Grüße aus Wien"
    assert detail["returns_to"] == f"bounces+{own}@example.com"
    assert "Grüße aus Wien" in say("show", str(own))
    assert "finished message" in say("explain", str(own))
    assert "subject: Grüße aus Wien" in say("preview", str(own))
    assert api.client.get(f"/api/reservations/{own}/preview").json()["subject"] == "Grüße aus Wien"


def test_a_finished_message_is_returned_to_its_author_if_nobody_else_is_named(api, say, database_url, monkeypatch):
    monkeypatch.delenv("MAILBATCH_RETURN_PATH")
    own = add(database_url, message=eml(), subject=None, body_text=None)
    assert json.loads(say("show", str(own), "--json"))["returns_to"] == "shop@example.com"
    assert "returns to" not in say("explain", str(own))


def test_a_list_without_finished_messages_costs_no_statement_for_them(api, database_url, statements):
    add(database_url)
    api.client.get("/api/reservations")
    assert not [one for one in statements if "substr" in one]


def test_a_finished_message_is_shown_as_a_mail_client_shows_it_and_stays_in_its_frame(api, database_url):
    own = add(database_url, message=eml(), subject=None, body_text=None)
    page = Browser(api.client).open(f"/reservations/{own}")
    for text in ("Grüße aus Wien", "Shop <shop@example.com>", "Dear Zoë", "Rechnung März.pdf", "cid:logo@x"):
        assert text in page, text
    shown = api.client.get(f"/reservations/{own}/html")
    assert f'src="data:image/png;base64,{b64encode(b"PNG!").decode()}"' in shown.text
    assert "<link" not in shown.text
    assert shown.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_a_message_that_cannot_be_read_says_why(api, database_url):
    own = add(database_url, message=b"no header\r\n\r\nHi", subject=None, body_text=None)
    assert "line 1 of its header is no field" in Browser(api.client).open(f"/reservations/{own}")
    assert api.client.get(f"/reservations/{own}/html").status_code == 422
    assert api.client.get(f"/reservations/{own}/message.eml").status_code == 422


def test_the_message_can_be_saved_as_it_goes_to_the_relay(api, database_url, full):
    finished = add(database_url, message=eml(), subject=None, body_text=None)
    saved = api.client.get(f"/reservations/{finished}/message.eml")
    assert saved.headers["Content-Disposition"] == f'attachment; filename="{finished}.eml"'
    read = message_from_bytes(saved.content, policy=default)
    assert read["Subject"] == "Grüße aus Wien"
    attached = add(database_url, attachments=[{"path": "invoice.pdf"}])
    saved = api.client.get(f"/reservations/{attached}/message.eml")
    [part] = message_from_bytes(saved.content, policy=default).iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("invoice.pdf", INVOICE)
    refused = api.client.get(f"/reservations/{full[0]}/message.eml")
    assert refused.status_code == 422
    assert "absent.pdf: is not there" in refused.text


def test_a_preview_shows_the_images_that_the_mail_attaches(api, database_url):
    code = {"content": b64encode(b"PNG?").decode(), "filename": "code.png", "content_id": "code"}
    own = add(database_url, body_html='<img src="cid:code">', attachments=[code, {"path": "x", "content_id": "y"}])
    assert f"data:image/png;base64,{b64encode(b'PNG?').decode()}" in api.client.get(f"/reservations/{own}/html").text
