"""What a language tag is, and which other tags stand in for it."""

from __future__ import annotations

import pytest

from mailbatch.domain.locale import language_text, locale_problem, ranges


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("de", ("de",)),
        ("pt-BR", ("pt-br", "pt")),
        ("PT_br", ("pt-br", "pt")),
        ("zh-Hant-TW", ("zh-hant-tw", "zh-hant", "zh")),
        ("es-419", ("es-419", "es")),
        ("sl-rozaj-biske", ("sl-rozaj-biske", "sl-rozaj", "sl")),
        ("de-u-co-phonebk", ("de-u-co-phonebk", "de-u-co", "de")),
        ("de-x-formal", ("de-x-formal", "de")),
    ],
)
def test_a_tag_is_looked_up_from_the_most_specific_to_the_language(tag, found):
    assert ranges(tag) == found
    assert locale_problem(tag) is None


@pytest.mark.parametrize(
    "text", ["", " ", "C", "d", "de-", "-de", "de--AT", "de_DE.UTF-8", "../de", "de\n", "deutsch1", "x-own", "de" * 40]
)
def test_other_texts_are_no_tags(text):
    assert ranges(text) == ()
    assert locale_problem(text).startswith("locale: '")
    assert locale_problem(text).isprintable()


@pytest.mark.parametrize(
    ("locale", "served_in", "text"),
    [
        (None, (), None),
        ("de", (), "de"),
        ("pt_BR", ("pt-br",), "pt_BR"),
        ("pt-BR", ("pt",), "pt-BR (served by pt)"),
        ("pt-BR", ("pt-BR", "pt"), "pt-BR (served by pt-BR, pt)"),
        (None, ("de",), "de (the default)"),
    ],
)
def test_a_language_is_told_with_the_one_that_serves_it_if_that_is_another(locale, served_in, text):
    assert language_text(locale, served_in) == text
