"""The console's pages of templates: what is there, what is wrong with it, how it looks, and a test mail."""

from __future__ import annotations

import base64
from email.parser import BytesParser
from email.policy import default
from typing import TYPE_CHECKING

import pytest
from support.api import OPERATE, READ, Api
from support.pages import Browser, Page
from support.sink import Sink
from support.waiting import wait_until

from mailbatch.domain.errors import Busy
from mailbatch.domain.template_check import CheckedTemplate
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.templates import template_folder
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.preflight import Preflight
from mailbatch.infrastructure.templates.template_folder import TemplateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTML = (
    '<meta name="color-scheme" content="light dark"><style>@media (prefers-color-scheme: dark) { p { color: red } }'
    '</style><link rel=preconnect href="https://x.example"><p>Dear {{ name }}</p><img src="logo.png">'
)
FILES = {
    "hi/subject.txt": "Hello {{ name }} {{ '{{' }}",
    "hi/body.html": HTML,
    "hi/logo.png": "PNG",
    "hi/sample.json": '{"name": "Zoë"}',
    "hi/template.toml": "html_to_text = true",
    "hi/de/subject.txt": "Hallo {{ name }}",
    "hi/de/body.txt": "Liebe {{ nobody }}",
    "bare/subject.txt": "s",
    "bare/body.txt": "t",
    "layout/base.html": "",
    "o'dd <b>/subject.txt": "s",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "subject.txt").write_text("canary", encoding="utf-8")
    return tmp_path / "templates"


@pytest.fixture
def settings(sqlite_url: str, folder: Path) -> dict[str, object]:
    upgrade(sqlite_url)
    nobody = {"redis_url": "redis://127.0.0.1:1", "smtp_url": "smtp://127.0.0.1:1"}
    return {"database_url": sqlite_url, "template_dir": folder, **nobody}


@pytest.fixture
def browser(settings: dict[str, object]) -> Iterator[Browser]:
    with Api(settings) as api:
        yield Browser(api.client)


def listed(browser: Browser, *texts: str) -> Page:
    """The list once it has these texts: a page checks for some seconds, and the next one goes on."""
    pages = [browser.open("/templates")]

    def complete() -> bool:
        pages.append(browser.open("/templates"))
        return all(text in pages[-1] for text in texts)

    wait_until(complete, 60, f"the list to have {texts}")
    return pages[-1]


def test_the_list_has_each_template_with_its_languages_and_what_is_wrong_with_it(browser, folder):
    page = listed(
        browser,
        "bare en in order no sample",
        "hi en, de 1 problem sample de: hi/sample.json has no value for nobody",
    )
    assert [link for link in page.links.values() if link.startswith("/templates/")] == [
        "/templates/bare",
        "/templates/hi",
    ]
    (folder / "hi" / "de" / "body.txt").write_text("Liebe {{ name }}")
    listed(browser, "hi en, de in order sample")


def test_a_template_is_checked_once_until_a_file_changes_and_later_if_there_was_no_time(folder):
    asked, busy = list[str](), True

    def check(name: str, _seconds: float) -> CheckedTemplate:
        asked.append(name)
        if busy and name == "bare":
            raise Busy("others look at mails")
        return CheckedTemplate(name=name, locales=(), rendered=False, findings=(("", "hangs"),))

    templates = TemplateFolder(folder, Preflight(folder, 10_000, Options()), check)
    assert templates.checked(["bare", "hi"], 60.0)["bare"] is None
    busy = False
    found = templates.checked(["bare", "hi"], 60.0)
    assert [one.findings for one in found.values() if one] == [(("", "hangs"),)] * 2
    assert asked == ["bare", "hi", "bare"]
    (folder / "hi" / "body.html").write_text("another")
    assert list(templates.checked(["bare", "hi"], 0.0).values()) == [None, None]


@pytest.mark.parametrize(("locales", "times"), [((), 2), (("en",), 1)])
def test_a_check_that_did_not_end_is_tried_again_after_a_while(folder, monkeypatch, locales, times):
    monkeypatch.setattr(template_folder, "AGAIN", 0.0)
    asked = list[str]()

    def check(name: str, _seconds: float) -> CheckedTemplate:
        asked.append(name)
        return CheckedTemplate(name=name, locales=locales, rendered=False, findings=())

    templates = TemplateFolder(folder, Preflight(folder, 10_000, Options()), check)
    for _ in range(2):
        assert templates.checked(["hi"], 60.0)["hi"] is not None
    assert asked == ["hi"] * times


def test_a_language_is_seen_as_html_text_and_source(browser):
    page = browser.open("/templates/hi")
    assert "Hello Zoë {{" in page
    [frame] = [given for tag, given in page.elements if tag == "iframe"]
    assert (frame["sandbox"], frame["src"]) == ("", "/templates/hi/html?locale=en&scheme=light")
    page = browser.follow(page, "Text")
    assert "Dear Zoë" in page
    page = browser.follow(page, "Source")
    for file in ("hi/subject.txt", "hi/body.html", "hi/sample.json", "html_to_text = true"):
        assert file in page
    page = browser.follow(page, "de (1 problem)")
    assert "hi/sample.json has no value for nobody" in page
    assert "Liebe {{ nobody }}" in page, "the view stays"
    assert "It cannot be shown: it is not in order." in browser.follow(page, "Desktop")
    assert "It has no sample.json" in browser.open("/templates/bare")


def test_the_frame_shows_light_or_dark_with_the_images_of_the_folder_and_fetches_nothing(browser):
    for scheme, condition in (("light", "(max-width:0)"), ("dark", "(min-width:0)")):
        answer = browser.client.get("/templates/hi/html", params={"scheme": scheme})
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        assert f"@media {condition} " in answer.text
        assert f'name="color-scheme" content="{scheme}"' in answer.text
        assert f"data:image/png;base64,{base64.b64encode(b'PNG').decode()}" in answer.text
        assert "<link" not in answer.text


def test_what_is_not_there_is_a_page_that_says_so(browser):
    for address in (
        *("gone", "..%2fsecret", "%2e%2e/secret", "o'dd%20%3Cb%3E", "layout", "hi?locale=fr", "hi?locale=..", "hi%00"),
        *("hi?view=other", "hi/html?locale=de", "bare/html", "hi/html?scheme=x", "x" * 300),
    ):
        assert "canary" not in browser.open(f"/templates/{address}", 404).text


def test_without_a_folder_the_pages_say_what_to_set(settings, folder):
    with Api({**settings, "template_dir": None}) as api:
        assert "There is no template directory: set MAILBATCH_TEMPLATE_DIR." in Browser(api.client).open("/templates")
        assert "set MAILBATCH_TEMPLATE_DIR" in Browser(api.client).open("/templates/hi", 404)


def test_a_folder_that_was_removed_is_named(browser, folder):
    browser.open("/templates")
    folder.rename(folder.with_name("elsewhere"))
    assert f"The template directory {folder}: " in browser.open("/templates", 404)
    assert f"Template hi: the folder {folder} cannot be opened" in browser.open("/templates/hi", 404)
    folder.mkdir()
    assert f"Template hi: the folder {folder} is empty; is its file system" in browser.open("/templates/hi", 404)


# --- the test mail ---


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    (tmp_path / "sink").mkdir()
    with Sink(tmp_path / "sink", store=True) as sink:
        yield sink


def test_a_test_goes_out_at_once_marked_as_one_and_is_recorded(settings, sink, folder):
    with Api({**settings, "smtp_url": sink.url}) as api:
        browser = Browser(api.client)
        page = browser.press(browser.open("/templates/hi"), "Send the test", to="ann@example.com")
        assert "Sent: 250 " in page
        [noted] = api.get("/api/actions")["items"]
    [accepted] = sink.accepted()
    mail = BytesParser(policy=default).parsebytes(sink.raw(accepted))
    assert accepted.recipients == ("ann@example.com",)
    assert mail["subject"] == "[Test] Hello Zoë {{"
    assert "Dear Zoë" in mail.get_body(("plain",)).get_content()
    assert [part.get_content_type() for part in mail.walk()][-1] == "image/png"
    assert (noted["actor"], noted["action"], noted["outcome"]) == ("console:operate", "test-send", "sent")
    assert noted["target"] == {"template": "hi", "locale": "en"}


def test_a_test_goes_where_every_mail_is_redirected(settings, sink):
    with Api({**settings, "smtp_url": sink.url, "redirect_all_to": "dev@example.com"}) as api:
        page = Browser(api.client).open("/templates/hi")
        assert "It goes to dev@example.com and nobody else" in page
        assert "Sent: " in Browser(api.client).press(page, "Send the test", to="ann@example.com")
    assert [one.recipients for one in sink.accepted()] == [("dev@example.com",)]


def test_a_test_that_cannot_go_is_refused_in_one_line(settings, sink):
    with Api({**settings, "smtp_url": sink.url}) as api:
        browser = Browser(api.client)
        for to, said, outcome in (
            ("refuse-ann@example.com", "Failed: 550 5.1.1", "failed"),
            ("nobody", 'Not sent: to: "***" is no address', "refused"),
            ("a@example.com, b@example.com", "Not sent: to: has 2 addresses; give one", "refused"),
            ("", "Not sent: to: ", "refused"),
        ):
            page = browser.press(browser.open("/templates/hi"), "Send the test", to=to)
            assert said in page
            assert "ann@" not in page
            assert api.get("/api/actions")["items"][0]["outcome"] == outcome


def test_a_test_of_a_template_without_a_sample_or_with_a_fault_is_refused(browser, folder):
    form = browser.open("/templates/hi").form("Send the test")
    fields = {**form.fields, "to": "ann@example.com"}
    for name, locale, said in (("bare", "en", "bare has no sample.json"), ("hi", "de", "body.txt line 1: 'nobody' is")):
        answer = browser.client.post(f"/templates/{name}/send-test", data={**fields, "locale": locale})
        assert answer.status_code == 303
        page = browser.open(answer.headers["Location"])
        assert "Not sent: " in page
        assert said in page
    assert browser.client.post("/templates/gone/send-test", data=fields).status_code == 404


def test_a_relay_that_is_away_is_named(browser):
    page = browser.press(browser.open("/templates/hi"), "Send the test", to="ann@example.com")
    assert "Relay fault: " in page


def test_only_an_operator_with_a_form_of_ours_sends_a_test(settings):
    with Api({**settings, "api_token": OPERATE, "api_read_token": READ}) as api:
        reader = api.asking()
        reader.post("/login", data={"token": READ})
        assert Browser(reader).open("/templates/hi").forms[-1].label == "Log out"
        assert reader.post("/templates/hi/send-test", data={"to": "a@example.com"}).status_code == 403
        operator = api.asking()
        operator.post("/login", data={"token": OPERATE})
        assert operator.post("/templates/hi/send-test", data={"to": "a@example.com"}).status_code == 403
        assert Browser(operator).open("/templates/hi").form("Send the test")
        assert api.asking().get("/templates/hi/html").status_code == 303
