"""The port ``Renderer``: the parts of a mail, or a line for each that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fakes import as_it_is

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.subprocess_renderer import SubprocessRenderer

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 100_000


@pytest.fixture(scope="module")
def apart() -> Iterator[SubprocessRenderer]:
    renderer = SubprocessRenderer(None, MOST)
    yield renderer
    renderer.close()


def _renderer(kind: str, apart: SubprocessRenderer) -> Any:
    kinds = {"fake": as_it_is, "here": TemplateRenderer(None, MOST), "apart": apart, "hurried": apart.within(30)}
    return kinds[kind]


@pytest.fixture(params=["fake", "here", "apart", "hurried"])
def render(request: pytest.FixtureRequest, apart: SubprocessRenderer) -> Any:
    return _renderer(request.param, apart)


@pytest.fixture(params=["here", "apart", "hurried"])
def engine(request: pytest.FixtureRequest, apart: SubprocessRenderer) -> Any:
    """Those that run templates."""
    return _renderer(request.param, apart)


def mail(**fields: Any) -> Mail:
    return Mail(**{"recipients": "ann@example.org", "subject": "s", "body_text": "t"} | fields)


def test_parts_without_a_tag_come_as_they_are(render):
    found = render(mail(subject="Grüße", body_text="5 < 6 } {\n", body_html="<b>{</b>"))
    assert (found.subject, found.text, found.html) == ("Grüße", "5 < 6 } {\n", "<b>{</b>")


def test_a_part_that_is_not_there_stays_away(render):
    found = render(mail(body_text=None, body_html="<b>hi</b>"))
    assert (found.text is None or "hi" in found.text, found.html) == (True, "<b>hi</b>")


def test_tags_are_filled_from_the_context(engine):
    found = engine(mail(subject="Hello {{ name }}", body_html="<b>{{ name }}</b>", context={"name": "<Zoë>"}))
    assert (found.subject, found.html) == ("Hello <Zoë>", "<b>&lt;Zoë&gt;</b>")


def test_each_part_that_fails_has_a_line_that_names_part_and_line(engine):
    with pytest.raises(CannotCompose) as caught:
        engine(mail(subject="{{ nobody }}", body_text="one\n{{ nothing }}"))
    subject, text = caught.value.errors
    assert subject.startswith("subject line 1: ")
    assert text.startswith("body_text line 2: ")
