"""The text that is made from HTML has what a reader needs, and hostile HTML takes no longer than other HTML."""

from __future__ import annotations

import time

import pytest

from mailbatch.infrastructure.templates.html_to_text import LONGEST_HTML, text_of

SHARE = 10.0
"""Seconds of processor time for a megabyte on a slow machine. What is quadratic takes minutes."""


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h1>Hello <b>Ann</b></h1><p>thank\n you</p>", "Hello Ann\n=========\n\nthank you\n"),
        ("<p>1 &lt; 2<br>next<br><br>last</p>", "1 < 2\nnext\n\nlast\n"),
        ("<a href='https://x.example/?a=1&amp;b=2'>Pay</a>.", "Pay <https://x.example/?a=1&b=2>.\n"),
        ("<a href='https://x.example/'>x.example</a> <a href='mailto:a@b.c'>a@b.c</a>", "x.example a@b.c\n"),
        ("<a href='javascript:x()'>a</a> <a href='#b'>b</a> <a>c</a>", "a b c\n"),
        ("<a href='https://x.example/i'><img src=i></a>", "<https://x.example/i>\n"),
        ("<img src=a alt='ACME shop'><img src=b>", "ACME shop\n"),
        ("<ul><li>One<li>Two<ol><li>A</li><li>B</li></ol></ul>end", "- One\n- Two\n  1. A\n  2. B\n\nend\n"),
        ("<blockquote><p>a<p>b</blockquote>c", "> a\n\n> b\n\nc\n"),
        ("a<pre>x  y\n  z</pre>", "a\n\nx  y\n  z\n"),
        (
            "<table><tr><th>Item<th>Price<tr><td>Green tea<td>4,00&nbsp;€<tr><td colspan=2>All</table>",
            "Item       Price\nGreen tea  4,00 €\n\nAll\n".replace("\n\nAll", "\nAll"),
        ),
        (
            "<table><tr><td><table><tr><td><p>One</p></td></tr></table></td></tr><tr><td><p>Two</td></tr></table>",
            "One\n\nTwo\n",
        ),
        ("<!--[if mso]><p>Outlook</p><![endif]--><![if !mso]><p>Others</p><![endif]>", "Others\n"),
        ("<head><title>t</title></head><style>p{}</style><p>seen<script>x</script>", "seen\n"),
        ("<div style='color:red; DISPLAY : none'><div>un</div>seen</div><p hidden>x<p>seen", "seen\n"),
        ("<p>Preview&zwnj;&nbsp;&zwnj;&nbsp;</p><p>&zwnj;&nbsp;&zwnj;</p>", "Preview\u200c \u200c\n"),
        ("<head><p>no end<body>seen", "seen\n"),
        ("</table></ul></li></a></h1>odd", "odd\n"),
        ("<img src=x>", ""),
        ("", ""),
    ],
)
def test_html_becomes_the_text_that_a_reader_needs(html, text):
    assert text_of(html) == text


def test_a_table_that_is_too_wide_for_a_line_is_written_cell_after_cell():
    cell = "x" * 60
    assert text_of(f"<table><tr><td>{cell}<td>{cell}</table>") == f"{cell}\n\n{cell}\n"


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "<!--",
            "<a ",
            "</a",
            "<![CDATA[",
            "<a a='",
            "<",
            "&",
            "&#",
            "<!",
            "<?",
            "<div>",
            "<table><tr><td>x",
            "<table>",
        ),
        *("<ul><li>x", "<blockquote>x", "<div hidden>", "<td>x", "<pre>\n\n", "<script></scrip", "<a href=http://x>y"),
    ],
)
def test_hostile_html_takes_linear_time(piece):
    began = time.thread_time()
    text_of(piece * (LONGEST_HTML // len(piece) // 10))
    assert time.thread_time() - began < SHARE / 10


def test_html_of_more_than_a_megabyte_is_refused():
    with pytest.raises(ValueError, match="has more than 1000000 characters, from which no text is made"):
        text_of("x" * (LONGEST_HTML + 1))
