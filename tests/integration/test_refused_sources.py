"""Reserving a mail refuses what fails with every context: a missing template, a source that does not compile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.api import MAIL, Api

from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.loader import FolderLoader
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST = 1_000_000
STYLE = "<style>\n@media print{#offer{color:red}}\n</style>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    files = {
        "good": {"subject.txt": "Hello {{ name }}", "body.txt": "Dear {{ name }}"},
        "broken": {"subject.txt": "s", "body.txt": "one\n{{ name", "body.html": STYLE},
        "heir": {"subject.txt": "s", "body.html": "{% extends 'broken/body.html' %}"},
        "orphan": {"subject.txt": "s", "body.html": "{% extends 'nowhere/body.html' %}"},
        "bodiless": {"subject.txt": "s"},
        "perhaps": {"subject.txt": "s", "body.txt": "{% if x %}{% include 'nowhere/body.txt' %}{% endif %}"},
        "half": {"subject.txt": "s", "body.txt": "x {% include 'broken/body.txt' %}"},
        "optional": {"subject.txt": "s", "body.txt": "{% include 'nowhere/body.txt' ignore missing %}{% include x %}"},
        "itself": {"subject.txt": "s", "body.txt": "{% extends 'itself/body.txt' %}"},
    }
    for name, parts in files.items():
        (folder / name).mkdir()
        for file, text in parts.items():
            (folder / name / file).write_text(text)
    return folder


@pytest.fixture(params=["here", "apart"])
def problems(request: Any, folder: Path) -> Iterator[Callable[[Mail], list[str]]]:
    """Looks at sources in this process, as commands do, or in another, as the API does."""
    if request.param == "here":
        yield TemplateRenderer(folder, MOST).problems
    else:
        apart = SubprocessRenderer(folder, MOST)
        yield apart.problems
        apart.close()


def mail(**columns: Any) -> Mail:
    return Mail(**{"recipients": "ann@example.com", **columns})


def test_what_fails_with_every_context_is_found(problems, folder):
    found = {
        "source": problems(mail(subject="{{ a", body_text="x\n{% if %}", body_html=STYLE)),
        "filter": problems(mail(subject="s", body_text="{{ a | shout }}{{ 1 is odd }}", body_html="{{ a is nice }}")),
        **{
            name: problems(mail(template=name))
            for name in ("none", "../x", "broken", "heir", "orphan", "half", "bodiless")
        },
        "number": problems(mail(subject="s", body_text="{{ 1e400 }}")),
        "inline": problems(mail(subject="s", body_text="x\n{% include 'good/body.txt' %}")),
    }
    comment = "Missing end of comment tag; {# begins a comment: in a style sheet write { #"
    assert [one.partition(":")[0] for one in found["source"]] == [
        "subject line 1",
        "body_text line 2",
        "body_html line 2",
    ]
    assert found["source"][2] == f"body_html line 2: {comment}"
    assert found["filter"] == ["body_text line 1: No filter named 'shout'.", "body_html line 1: No test named 'nice'."]
    assert found["number"] == ["body_text line 1: a number is too large"]
    assert found["none"] == [f"template none: not found in {folder} (a folder with subject.txt, body.txt, body.html)"]
    assert found["../x"][0].startswith("template ../x: is no template name")
    assert [one.partition(": ")[0] for one in found["broken"]] == [
        "template broken/body.txt line 2",
        "template broken/body.html line 2",
    ]
    assert found["heir"] == [f"template broken/body.html (included by template heir/body.html) line 2: {comment}"]
    assert "nowhere/body.html" in found["orphan"][0]
    assert found["half"][0].startswith("template broken/body.txt (included by template half/body.txt) line 2: ")
    assert found["inline"] == ["body_text: an inline source cannot include, import or extend; use a named template"]
    assert found["bodiless"][0].startswith("body_text: is missing")


@pytest.mark.parametrize(
    "columns",
    [
        {"subject": "{{ nobody }}", "body_text": "{{ 1 / 0 }}{# a comment #}{{ '{{' }} { #a"},
        {"subject": "Your {#4711}"[:5], "body_text": "{", "body_html": ""},
        {"template": "good"},
        {"template": "good", "subject": "", "body_html": "<p>{{ name }}</p>"},
        {"template": "bodiless", "body_text": "x"},
        {"template": "perhaps"},
        {"template": "optional"},
        {"subject": "s", "body_text": "{% if x %}{% include 'good/body.txt' %}{% endif %}"},
        {"template": "itself"},
    ],
)
def test_what_some_context_can_render_is_not_refused(problems, columns):
    assert problems(mail(**columns)) == []


def test_without_a_folder_the_names_of_templates_are_looked_at_and_the_mails_own_sources():
    here, apart = TemplateRenderer(None, MOST), SubprocessRenderer(None, MOST)
    for problems in (here.problems, apart.problems):
        assert problems(mail(template="none")) == []
        assert "is no template name" in problems(mail(template="a/b"))[0]
        assert problems(mail(template="none", body_text="{{"))[0].startswith("body_text line 1: ")
    apart.close()


# --- by each door ---


@pytest.fixture
def run(say: Any, sqlite_url: str, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfDear {{ name }}")
    (tmp_path / "bom.json").write_bytes(b'\xef\xbb\xbf{"name": "Ann"}')
    return lambda *args, **settings: say(*args, DATABASE_URL=sqlite_url, **settings)


def test_the_command_line_refuses_it_and_calls_it_as_the_option_is_called(run, folder):
    to = ("reserve", "--to", "ann@example.com", "--subject", "s")
    for option, value in (("--text", "{{ a"), ("--html", STYLE)):
        code, out, err = run(*to, option, value)
        assert (code, out) == (1, "")
        assert err.startswith(f"mailbatch: {option} line ")
    assert run(*to, "--text", "t", "--locale", "??")[2].startswith("mailbatch: --locale: '??' is no language tag")
    assert run(*to, "--text", "t", "--locale", "pt-BR")[0] == 0
    warned = run("reserve", "--to", "ann@example.com", "--template", "none")
    assert (warned[0], len(warned[1].split())) == (0, 1)
    assert warned[2].startswith("mailbatch: template none: is not checked, because MAILBATCH_TEMPLATE_DIR is not set")
    code, _, err = run("reserve", "--to", "ann@example.com", "--template", "none", TEMPLATE_DIR=str(folder))
    assert (code, f"template none: not found in {folder}" in err) == (1, True)
    assert run("reserve", "--to", "ann@example.com", "--template", "good", TEMPLATE_DIR=str(folder))[2] == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--to", "nobody", "--text", "t"), '--to: "nobody" is no address'),
        (("--to", "a@example.com"), "--text: is missing; give --text, --html or a template"),
        (("--to", "a@example.com", "--text", "t", "--reply-to", "x"), '--reply-to: "x" is no address'),
        (("--to", "a@example.com", "--text", "t", "--key", ""), "--key: is empty"),
        (
            (
                *("--to", "a@example.com", "--text", "t"),
                "--at",
                "2030-01-02T00:00:00Z",
                "--expires",
                "2030-01-01T00:00:00Z",
            ),
            "--expires: is not after --at, so the mail could never go out",
        ),
    ],
)
def test_the_command_line_calls_what_is_wrong_as_its_options_are_called(run, args, said):
    code, _, err = run("reserve", "--subject", "s", *args)
    assert (code, err.startswith(f"mailbatch: {said}")) == (1, True), err


def test_a_trial_names_what_is_wrong_as_its_caller_did(run, sqlite_url):
    _, _, err = run("send-test", "--to", "nobody", "--text", "{{ a", "--subject", "s", SENDER="a@example.com")
    assert err.startswith('mailbatch: --to: "nobody" is no address')
    assert "; --text line 1: " in err
    with Api({"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1"}) as api:
        body = {"to": "nobody", "subject": "s", "body_text": "t"}
        assert api.post("/api/test-send", body, 422)["problems"][0].startswith('to: "nobody" is no address')


def test_a_byte_order_mark_is_no_part_of_a_text(run):
    args = ("--to", "ann@example.com", "--subject", "s", "--text", "@bom.txt", "--context", "@bom.json")
    code, out, err = run("reserve", *args, "--headers", "@bom.json")
    assert (code, err) == (0, "")
    row = json.loads(run("show", out.strip(), "--json")[1])
    assert (row["body_text"], row["context"], row["headers"]) == ("Dear {{ name }}", {"name": "Ann"}, {"name": "Ann"})


def test_an_import_names_the_lines_and_warns_once_of_each_template(run, folder, tmp_path):
    rows = ["recipients,template,subject,body_html", *["a@example.com,none,,"] * 3, "a@example.com,good,,"]
    (tmp_path / "mails.csv").write_text("\n".join([*rows, "b@example.com,,s,a{#b", "c@example.com,,s,{{ name }}"]))
    code, out, err = run("import", "mails.csv")
    assert (code, out) == (1, "5 imported, 1 bad\n")
    assert [line.partition(" is")[0] for line in err.splitlines()][:2] == [
        "mails.csv: template none:",
        "mails.csv: template good:",
    ]
    assert err.splitlines()[2].startswith("mails.csv:6: body_html line 1: Missing end of comment tag")
    code, out, err = run("import", "mails.csv", TEMPLATE_DIR=str(folder))
    assert (code, out) == (1, "2 imported, 4 bad\n")
    assert [line.partition(": ")[0] for line in err.splitlines()] == [f"mails.csv:{n}" for n in (2, 3, 4, 6)]


def test_an_import_refuses_near_misses_and_says_which_names_variables_have(run, tmp_path):
    (tmp_path / "mails.csv").write_text("recipients,subject,body_text,First Name,from\na@example.com,s,t,Ann,x\n")
    code, out, err = run("import", "mails.csv")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "line 1: 'from' is no column; did you mean sender?" in err
    code, out, err = run("import", "mails.csv", "--context-column", "from")
    assert (code, out) == (0, "1 imported\n")
    assert err == "mails.csv: the column 'First Name' is the variable First_Name\n"
    assert json.loads(run("list", "--json")[1])[0]["context"] == {"First_Name": "Ann", "from": "x"}


PICTURES = {
    "subject.txt": "s",
    "body.txt": "t",
    "body.html": "<img src='logo.png'><img src='cid:photo.png'><img src='{{ url }}'><img src='https://x.example/a.png'>",
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Templates that show images: those of ``whole`` are there, that of ``lacks`` is not."""
    for name, files in {"whole": PICTURES | {"logo.png": "PNG"}, "lacks": PICTURES}.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / "pictures" / name / file).write_text(text)
    return tmp_path / "pictures"


def test_every_door_warns_of_images_that_neither_the_template_nor_the_mail_has(run, pictures, tmp_path, sqlite_url):
    lacks = "template lacks/body.html: shows the image logo.png, which is not in lacks/"
    whole = "template whole/body.html: shows the image cid:photo.png, which is not in whole/"
    mails = [{"recipients": "a@example.com", "template": name} for name in ("lacks", "whole")]
    (tmp_path / "mails.jsonl").write_text("\n".join(map(json.dumps, [*mails, *mails])))
    code, out, err = run("import", "mails.jsonl", TEMPLATE_DIR=str(pictures))
    assert (code, out) == (0, "4 imported\n"), err
    assert err == f"mails.jsonl: {lacks}\nmails.jsonl: {whole}\n"
    command = ("reserve", "--to", "a@example.com", "--template")
    assert run(*command, "lacks")[2] == f"mailbatch: {lacks}\n"
    (tmp_path / "photo.png").write_text("PNG")
    assert run(*command, "whole", "--inline", "photo.png")[2] == ""
    settings = {"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1", "template_dir": pictures}
    with Api(settings) as api:
        assert api.post("/api/reservations", mails[0], 201)["warnings"] == [lacks]
        found = api.post("/api/reservations", mails)["results"]
        assert [one["warnings"] for one in found] == [[lacks], [whole]]


def test_every_door_refuses_a_language_that_the_template_lacks_if_it_must_have_it(run, pictures, sqlite_url):
    command = ("reserve", "--to", "a@example.com", "--template", "whole", "--locale", "fr")
    assert run(*command, TEMPLATE_DIR=str(pictures))[0] == 0
    code, _, err = run(*command, LOCALE_STRICT="yes")
    assert (code, "template whole: has no language fr; it has en" in err) == (1, True)
    settings = {"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1", "template_dir": pictures}
    with Api({**settings, "locale_strict": True}) as api:
        mail = {"recipients": "a@example.com", "template": "whole", "locale": "fr"}
        assert "has no language fr" in api.post("/api/reservations", mail, 422)["problems"][0]


def test_a_template_is_looked_at_once_for_many_mails(pictures, monkeypatch):
    render = TemplateRenderer(pictures, MOST, look_again=60.0)
    reads = list[str]()
    real = FolderLoader.get_source
    monkeypatch.setattr(FolderLoader, "get_source", lambda self, env, name: reads.append(name) or real(self, env, name))
    for n in range(100):
        one = mail(template="lacks", context={"n": n})
        assert render.problems(one) == []
        assert list(render.missing_images(one)) == ["logo.png", "cid:photo.png"]
    assert len(reads) < 10


def test_the_api_refuses_it_and_warns_of_what_it_does_not_look_at(sqlite_url, folder):
    settings = {"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1"}
    named = {"recipients": "ann@example.com", "template": "none"}
    broken = MAIL | {"body_html": STYLE}
    with Api(settings) as api:
        assert api.post("/api/reservations", broken, 422)["problems"][0].startswith("body_html line 2: Missing end of")
        [warning] = api.post("/api/reservations", named, 201)["warnings"]
        assert warning.startswith("template none: is not checked")
        done = api.post("/api/reservations", [broken, named, MAIL])
        assert [list(result) for result in done["results"]] == [["problems"], ["id", "new", "warnings"], ["id", "new"]]
    with Api({**settings, "template_dir": str(folder)}) as api:
        assert "template none: not found" in api.post("/api/reservations", named, 422)["problems"][0]
        assert "warnings" not in api.post("/api/reservations", named | {"template": "good"}, 201)
