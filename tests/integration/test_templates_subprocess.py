"""Rendering in processes that can be killed, as previews, plans and the console do."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from support.processes import children_with
from support.waiting import wait_until

from mailbatch.domain.errors import Busy, CannotCompose, NotFound
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.subprocess_renderer import PROCESSES, WAITING, SubprocessRenderer

MOST = 1_000_000
SLOW = "{% for i in range(999) %}{% for j in range(900) %}{% endfor %}{% endfor %}"
"""Takes some tenths of a second, and no more than a template may."""


def mail(source: str = "Hello {{ name }}", **columns) -> Mail:
    return Mail(recipients="", **{"subject": "s", "body_text": source, "context": {"name": "Zoë"}} | columns)


def renderers() -> list[psutil.Process]:
    return children_with("mailbatch.infrastructure.templates.render_process")


@pytest.fixture
def render():
    apart = SubprocessRenderer(None, MOST)
    yield apart
    apart.close()
    assert not renderers()


@pytest.mark.parametrize(
    "one",
    [
        mail(),
        mail("\ud800 {{ name }} <", body_html="<b>{{ name }} {{ '<' }}</b>"),
        mail("{{ nobody }}", subject="{{ nothing }}"),
        mail("{{ 'x' * 900000000 }}"),
        mail("no marks at all"),
        mail(None),
        mail(None, template="none"),
    ],
)
def test_a_subprocess_renders_the_same_as_this_process(render, one):
    def outcome(renderer):
        try:
            return renderer(one)
        except CannotCompose as error:
            return error.errors

    assert outcome(render) == outcome(TemplateRenderer(None, MOST))


def test_a_process_is_started_when_it_is_needed_and_then_kept(render):
    render(mail("no marks"))
    assert not renderers()
    render(mail())
    [process] = renderers()
    render(mail())
    assert renderers() == [process]


def test_named_templates_come_from_the_folder_and_are_seen_when_they_change(tmp_path):
    (tmp_path / "news").mkdir()
    file = tmp_path / "news/body.txt"
    apart = SubprocessRenderer(tmp_path, MOST)
    try:
        for text in ("one", "another"):
            file.write_text(text)
            assert apart(mail(None, template="news")).text == text
    finally:
        apart.close()


def test_what_takes_too_long_is_killed_and_the_next_is_rendered():
    # The start of an interpreter takes longer on any machine.
    apart = SubprocessRenderer(None, MOST, seconds=0.001)
    try:
        with pytest.raises(CannotCompose) as caught:
            apart(mail(template="news"))
        assert caught.value.errors == ["template news: rendering takes longer than 0.001 seconds, and was ended"]
        assert not renderers()
    finally:
        apart.close()


def test_a_process_that_hangs_delays_only_its_own_mail(render):
    render(mail())
    [process] = renderers()
    process.suspend()
    render._seconds = 1.0
    with pytest.raises(CannotCompose, match=r"the mail's own templates: rendering takes longer than 1 seconds"):
        render(mail())
    assert not process.is_running()
    render._seconds = 20.0
    assert render(mail()).text == "Hello Zoë"


def test_a_check_of_a_template_that_hangs_is_ended(tmp_path):
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "subject.txt").write_text("s")
    (tmp_path / "news" / "body.txt").write_text("t")
    apart = SubprocessRenderer(tmp_path, MOST)
    assert apart.preflight("news").findings == ()
    [process] = renderers()
    process.suspend()
    line = "template news: rendering takes longer than 0.5 seconds, and was ended"
    assert apart.preflight("news", 0.5).findings == (("", line),)
    assert not process.is_running()
    with pytest.raises(NotFound, match="no template gone in "):
        apart.preflight("gone")
    apart.close()


def test_a_process_that_dies_fails_its_mail_and_the_next_gets_another(render):
    render(mail())
    [process] = renderers()
    process.send_signal(signal.SIGKILL)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, 10, "the process to die")
    with pytest.raises(CannotCompose, match=r"ended its process \(signal 9\)"):
        render(mail())
    assert render(mail()).text == "Hello Zoë"


def test_memory_and_processor_time_of_a_process_are_bounded(render):
    render(mail())
    [process] = renderers()
    assert process.rlimit(psutil.RLIMIT_AS)[0] < 2 * 2**30
    assert 0 < process.rlimit(psutil.RLIMIT_CPU)[0] < 20
    assert process.rlimit(psutil.RLIMIT_CORE)[0] == 0


STARTER = f"""
import os, psutil
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer
SubprocessRenderer(None, {MOST})(Mail(recipients="", subject="s", body_text="{{{{ 1 }}}}", context={{}}))
print(psutil.Process().children()[0].pid, flush=True)
os._exit(0)
"""


def test_a_process_ends_with_its_parent():
    done = subprocess.run([sys.executable, "-c", STARTER], capture_output=True, text=True, check=True)
    wait_until(lambda: not psutil.pid_exists(int(done.stdout)), 10, "the process to end")


def test_a_mail_is_refused_as_busy_when_too_many_wait(render):
    render(mail())
    for process in renderers():
        process.suspend()
    render._seconds = 3.0

    def ask(_: int) -> str:
        try:
            render(mail(SLOW))
        except (CannotCompose, Busy) as error:
            return str(error)
        return "rendered"

    asking = PROCESSES + WAITING + 4
    with ThreadPoolExecutor(asking) as many:
        said = list(many.map(ask, range(asking)))
    assert sum(text == f"{PROCESSES + WAITING} mails are being rendered; ask again" for text in said) >= 1
    assert len(renderers()) <= PROCESSES
