"""What the settings say about templates beside their folder."""

from __future__ import annotations

from dataclasses import dataclass

NO_LANGUAGE = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``locale``: the language of a mail that names none, and of the files directly in a template's folder.

    ``locale_strict``: a template that lacks the mail's language fails the mail. ``html_to_text``: mails without a text
    get one that is made from their HTML.
    """

    locale: str = NO_LANGUAGE
    locale_strict: bool = False
    html_to_text: bool = False
