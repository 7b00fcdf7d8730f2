"""The files of a template serve a mail in its language, otherwise in the default language."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.renderer import TemplateRenderer

if TYPE_CHECKING:
    from mailbatch.domain.letter import Rendered

MOST = 1_000_000


def write(folder: Path, **files: str) -> Path:
    """Write files; in a name ``__`` stands for a slash and the last ``_`` for a dot."""
    for name, source in files.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hi" / "pt-BR").mkdir(parents=True)
    (tmp_path / "hi" / "img").mkdir()
    (tmp_path / "hi" / "pt-BR" / "subject.txt").write_text("Oi, {{ 1.5|number }}", encoding="utf-8")
    return write(
        tmp_path,
        hi__subject_txt="Hello, {{ 1.5|number }}",
        hi__body_txt="Dear {{ name }}",
        hi__pt__subject_txt="Olá",
        hi__pt__body_txt="Caro {{ name }}",
        hi__DE__subject_txt="Hallo, {{ 1.5|number }}",
        hi__DE__body_html="<p>Liebe {{ name }}</p>",
    )


def rendered(folder: Path | None, language: str | None, **options) -> Rendered:
    render = TemplateRenderer(folder, MOST, options=Options(**options))
    return render(Mail(recipients="", template="hi", locale=language, context={"name": "Ann"}))


def fault(folder: Path, locale: str, **options) -> str:
    with pytest.raises(CannotCompose) as caught:
        rendered(folder, locale, **options)
    [line] = caught.value.errors
    return line


def test_a_language_without_files_of_its_own_takes_those_of_the_more_general_one(folder):
    assert rendered(folder, "pt-BR").subject == "Oi, 1,5"
    assert rendered(folder, "pt-BR").text == "Caro Ann"
    assert rendered(folder, "PT_pt").subject == "Olá"


def test_a_mail_whose_language_is_missing_gets_the_default_files_and_their_numbers(folder):
    assert rendered(folder, "fr").subject == "Hello, 1.5"
    assert rendered(folder, "fr", locale="de-AT").subject == "Hallo, 1,5"
    assert rendered(folder, None, locale="pt").subject == "Olá"
    assert rendered(folder, "", locale="pt").subject == "Olá"


def test_a_strict_template_fails_a_mail_whose_language_is_missing(folder):
    has = "it has DE, pt, pt-BR, en (the files in the folder itself)"
    assert fault(folder, "fr", locale_strict=True) == f"template hi: has no language fr; {has}"
    assert rendered(folder, "de-AT", locale_strict=True).subject == "Hallo, 1,5"
    assert rendered(folder, "en-GB", locale_strict=True).subject == "Hello, 1.5"
    assert rendered(folder, None, locale_strict=True).subject == "Hello, 1.5"


def test_a_template_with_folders_only_names_its_languages_if_none_fits(folder):
    for name in ("subject.txt", "body.txt"):
        (folder / "hi" / name).unlink()
    assert fault(folder, "fr") == "template hi: has no language fr; it has DE, pt, pt-BR"


@pytest.mark.parametrize("tag", ["german language", "../de", "C", "de\x00"])
def test_a_locale_that_is_no_tag_is_an_error_by_its_name(folder, tag):
    assert fault(folder, tag).startswith("locale: '")
    with pytest.raises(CannotCompose, match="locale: "):
        TemplateRenderer(None, MOST)(Mail(recipients="", subject="s", body_text="b", locale=tag))


def test_an_inline_source_writes_in_the_language_of_its_mail():
    mail = Mail(recipients="", subject="{{ 1.5|number }}", body_text="b", locale="de")
    assert TemplateRenderer(None, MOST)(mail).subject == "1,5"


def test_templates_extend_include_and_import_across_folders_and_languages(folder):
    write(
        folder,
        layout__base_html="<html>{% block main %}{% endblock %}{% include 'layout/foot.html' %}</html>",
        layout__foot_html="<p>{{ 2.5|number }}</p>",
        layout__de__base_html="{% extends 'layout/base.html' %}"
        "{% block main %}{% block body %}{% endblock %}{% endblock %}",
        layout__macros_html="{% macro price(n) %}<b>{{ n|currency('EUR') }}</b>{% endmacro %}",
        hi__DE__body_html="{% extends 'layout/de/base.html' %}{% from 'layout/macros.html' import price %}"
        "{% block body %}{{ price(3) }}{% endblock %}",
    )
    assert rendered(folder, "de").html == "<html><b>3,00\xa0€</b><p>2,5</p></html>"


def test_files_of_two_languages_are_never_mixed(folder):
    german = rendered(folder, "de-CH")
    assert (german.subject, german.text, german.html) == ("Hallo, 1.5", None, "<p>Liebe Ann</p>")


def test_the_text_of_a_mail_is_made_from_its_html_if_it_has_none(folder):
    assert rendered(folder, "de", html_to_text=True).text == "Liebe Ann\n"
    assert rendered(folder, "pt", html_to_text=True).text == "Caro Ann"
    (folder / "hi" / "template.toml").write_text("html_to_text = true")
    assert rendered(folder, "de").text == "Liebe Ann\n"
    (folder / "hi" / "template.toml").write_text("html_to_text = false")
    assert rendered(folder, "de", html_to_text=True).text is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("html_to_text = 1", "template.toml: html_to_text must be true or false"),
        ("html2text = true", "template.toml has 'html2text'; it may have html_to_text"),
        ("html_to_text", "template.toml is no TOML: Expected '=' after a key"),
    ],
)
def test_a_wrong_file_of_settings_is_an_error_of_its_template(folder, source, reason):
    (folder / "hi" / "template.toml").write_text(source)
    assert fault(folder, "de").startswith(f"template hi: {reason}")


def test_html_that_is_too_large_for_a_text_is_an_error(folder):
    write(folder, big__subject_txt="s", big__body_html="{{ 'x' * 1000001 }}")
    with pytest.raises(CannotCompose, match="body_html: has more than 1000000 characters"):
        TemplateRenderer(folder, 10 * MOST, options=Options(html_to_text=True))(Mail(recipients="", template="big"))


def test_the_page_on_languages_shows_what_its_templates_write(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "templates-and-languages.md").read_text(encoding="utf-8")
    for name, source in re.findall(r"`([a-z/]+\.[a-z]+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    [sample] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    context = json.loads(sample)
    render = TemplateRenderer(tmp_path, MOST)
    german = render(Mail(recipients="", template="order", locale="de", context=context))
    [shown] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert (german.subject, german.text) == ("Ihre Bestellung 1234", shown)
    english = render(Mail(recipients="", template="order", locale="en-GB", context=context))
    assert "3 articles for €19.90,\ndelivered on Thursday, 24 December 2026." in (english.html or "")


def test_the_languages_that_serve_a_mail_are_those_of_the_files_from_which_it_is_made(folder):
    def served_in(locale: str | None, **given: str) -> tuple[str, ...]:
        render = TemplateRenderer(folder, MOST, options=Options(locale="en"))
        return render.served_in(Mail(recipients="", template="hi", locale=locale, **given))

    assert served_in("pt-BR") == ("pt-BR", "pt"), "its subject is Brazilian"
    assert served_in("pt-BR", subject="s") == ("pt",)
    assert served_in("pt-PT") == ("pt",)
    assert served_in("de-AT") == ("DE",)
    assert served_in("fr") == ("en",)
    assert served_in(None) == (), "a template without a language for it is in no language"
    assert served_in("no tag") == ()
