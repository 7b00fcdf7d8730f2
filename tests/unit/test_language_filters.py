"""Numbers, prices, dates, times and plural forms are written as the mail's language does; a wrong value is an error."""

from __future__ import annotations

import pytest
from jinja2 import TemplateRuntimeError, UndefinedError
from markupsafe import Markup

from mailbatch.infrastructure.templates import language
from mailbatch.infrastructure.templates.budget import Budget
from mailbatch.infrastructure.templates.sandbox import Sandbox

NBSP = "\u00a0"


def rendered(source: str, tag: str = "de", *, html: bool = False, **context) -> str:
    language.write_in(tag, context)
    with Budget(1_000_000):
        return Sandbox(html=html).from_string(source).render(context)


@pytest.mark.parametrize(
    ("source", "tag", "written"),
    [
        ("1234567.891|number", "de", "1.234.567,891"),
        ("1234567.891|number", "hi", "12,34,567.891"),
        ("1234.5|number(2)", "fr", "1\u202f234,50"),
        ("'19.90'|number(digits=0)", "de", "20"),
        ("-0.0|number", "de", "0"),
        ("'19.90'|currency('EUR')", "de", f"19,90{NBSP}€"),
        ("19.9|currency(code='eur')", "en-US", "€19.90"),
        ("1500|currency('JPY')", "ja", "￥1,500"),
        ("0.256|percent", "de", f"26{NBSP}%"),
        ("0.256|percent(1)", "en", "25.6%"),
        ("'2026-12-24'|date", "de", "24.12.2026"),
        ("'2026-12-24'|date('full')", "pt-BR", "quinta-feira, 24 de dezembro de 2026"),
        ("'2026-12-24'|date('EEEE, d. MMMM')", "de", "Donnerstag, 24. Dezember"),
        ("'2026-12-24T09:30:00+09:00'|time", "de", "09:30"),
        ("'2026-12-24T23:30:00Z'|datetime('long', timezone='Europe/Berlin')", "de", "25. Dezember 2026, 00:30"),
        ("1|plural(one='ein Artikel', other='{n} Artikel')", "de", "ein Artikel"),
        ("1234|plural(one='ein Artikel', other='{n} Artikel')", "de", "1.234 Artikel"),
        ("3|plural(one='{n} plik', few='{n} pliki', other='{n} plików')", "pl", "3 pliki"),
        ("5|plural('{n} 個')", "ja", "5 個"),
    ],
)
def test_each_filter_writes_as_the_language_does(source, tag, written):
    assert rendered(f"{{{{ {source} }}}}", tag) == written


@pytest.mark.parametrize("tag", ["de-AT", "DE_at", "de-u-co-phonebk", "de-x-formal"])
def test_a_tag_that_is_more_specific_than_cldr_is_written_as_its_language(tag):
    assert rendered("{{ 1|plural(one='ein', other='viele') }}", tag) == "ein"


def test_times_are_in_the_zone_of_the_context_unless_the_filter_names_one():
    at = {"at": "2026-12-24T12:00:00Z", "timezone": "Asia/Tokyo"}
    assert rendered("{{ at|time }} {{ at|time(timezone='Europe/Berlin') }}", **at) == "21:00 13:00"


def test_a_time_without_an_offset_is_written_as_it_is():
    assert rendered("{{ '2026-12-24T12:00'|time }}", timezone="Asia/Tokyo") == "12:00"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("'x'|number", "the filter number is given something other than a number, such as 19.9 or '19.90'"),
        ("true|number", "the filter number is given something other than a number, such as 19.9 or '19.90'"),
        ("[1]|currency('EUR')", "the filter currency is given something other than a number, such as 19.9 or '19.90'"),
        ("'1e999999'|number", "the filter number is given a number with more than 20 digits"),
        ("'nan'|percent", "the filter percent is given something other than a number, such as 19.9 or '19.90'"),
        ("1|number(21)", "the filter number needs 0 to 20 digits"),
        ("1|number('2')", "the filter number needs 0 to 20 digits"),
        ("1|currency('XYZ')", "the filter currency needs a code of ISO 4217, such as EUR"),
        ("1|currency(none)", "the filter currency needs a code of ISO 4217, such as EUR"),
        ("1|plural('a', on='b')", "the filter plural has no form 'on'; there are zero, one, two, few, many, other"),
        ("1|plural(5)", "the filter plural needs a text for each form"),
        (
            "'tomorrow'|date",
            "the filter date is given something other than a date or a time in ISO 8601, such as 2026-12-24T09:00:00Z",
        ),
        ("'2026-12-24'|time", "the filter time is given a date without a time"),
        ("'0001-01-01T00:00Z'|date(timezone='America/Lima')", "the filter date is given a time that this time zone"),
        ("'2026-12-24'|date('HH:mm')", "the filter date is given a format that does not fit; write short, medium"),
        ("'2026-12-24'|date(5)", "the filter date needs a format of at most 100 characters: short, medium, long"),
        ("'2026-12-24'|date(timezone='../x')", "'timezone' is no time zone; write a name such as Europe/Berlin"),
        ("'2026-12-24'|date(timezone=5)", "'timezone' is no time zone; write a name such as Europe/Berlin"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_names_the_filter(source, reason):
    with pytest.raises(TemplateRuntimeError) as caught:
        rendered(f"{{{{ {source} }}}}")
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("name", ["currency('EUR')", "date", "datetime", "nl2br", "number", "percent", "plural('')"])
@pytest.mark.parametrize(("value", "reason"), [("none", "'none' is null"), ("gone", "'gone' is undefined")])
def test_a_value_that_is_missing_is_an_error_by_its_name(name, value, reason):
    with pytest.raises(UndefinedError, match=reason):
        rendered(f"{{{{ {value}|{name} }}}}")


def test_a_language_that_cldr_does_not_know_is_an_error():
    with pytest.raises(TemplateRuntimeError, match="cannot be written in the language tlh"):
        rendered("{{ 1|number }}", "tlh")


def test_nl2br_keeps_the_lines_of_a_text_in_html_and_escapes_it():
    text = "Ann & Bob\r\n1 Main St"
    assert rendered("{{ at|nl2br }}", html=True, at=text) == "Ann &amp; Bob<br>\n1 Main St"
    assert rendered("{{ at|nl2br }}", at=text) == text
    assert rendered("{{ at|nl2br }}", html=True, at=Markup("<b>x</b>\ny")) == "<b>x</b><br>\ny"


def test_the_data_of_a_few_languages_only_is_kept():
    from babel import localedata

    for tag in localedata.locale_identifiers()[:80]:
        rendered("{{ 1|number }}", tag)
    # With each come the languages from which it inherits.
    assert len(localedata._cache) <= 3 * 32
