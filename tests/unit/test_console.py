"""What a page says in words, colours and bars, without a server."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from support.rows import run_row

pytest.importorskip("fastapi")

from mailbatch.domain.figures import LAGS, Histogram
from mailbatch.interfaces.console import formatting
from mailbatch.interfaces.console.chart import BARS, HEIGHT, draw
from mailbatch.interfaces.console.screen import STATIC
from mailbatch.interfaces.console.searches import Searches
from mailbatch.interfaces.console.snapshot import lag_told
from mailbatch.interfaces.csvs import csv_line
from mailbatch.interfaces.framed import without_hints
from mailbatch.interfaces.visible import HIDDEN, visible

NOON = datetime(2026, 11, 21, 12, 10, tzinfo=UTC)


def run(ago: timedelta, **counts):
    return run_row(NOON - ago, **counts)


def test_the_chart_puts_each_run_into_its_half_hour():
    chart = draw(
        [run(timedelta(minutes=5), sent=80, failed=20), run(timedelta(minutes=15), sent=48, in_doubt=2)], NOON, "UTC"
    )
    assert len(chart.bars) == BARS
    before, last = chart.bars[-2:]
    assert last.label == "12:00–12:30: 80 sent, 20 failed, 1 run"
    assert before.label == "11:30–12:00: 48 sent, 2 in doubt, 1 run"
    assert chart.total == {"sent": 128, "deferred": 0, "failed": 22}
    assert sum(part.height for part in last.parts) == pytest.approx(2 * sum(part.height for part in before.parts))


def test_one_failure_among_thousands_is_seen_and_no_bar_leaves_the_drawing():
    (bar,) = [b for b in draw([run(timedelta(0), sent=100_000, failed=1, deferred=1)], NOON, "UTC").bars if b.parts]
    assert all(part.height >= 2 for part in bar.parts)
    assert all(part.y >= 0 and part.y + part.height <= HEIGHT for part in bar.parts)


def test_what_began_before_the_day_is_not_drawn():
    chart = draw([run(timedelta(days=1, minutes=20), sent=9), run(timedelta(days=3), sent=9)], NOON, "UTC")
    assert (chart.runs, chart.most) == (0, 0)


def test_the_charts_hours_are_those_of_the_time_zone():
    assert [label for _, label in draw([], NOON, "Asia/Tokyo").ticks] == ["00:00", "06:00", "12:00", "18:00"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (4.24, "4.2 s"), (59.6, "1 min"), (130, "2 min 10 s"), (11_100, "3 h 5 min"), (187_200, "2 d 4 h")],
)
def test_a_length_of_time_is_told_in_the_units_that_matter(seconds, told):
    assert formatting.span(seconds) == told.replace(" ", "\N{NO-BREAK SPACE}"), (
        "no line ends between a number and its unit"
    )


def test_a_path_of_the_api_breaks_before_its_slashes():
    assert formatting.steps("/api/<b>/{id}") == "<wbr>/api<wbr>/&lt;b&gt;<wbr>/{id}"


def test_commands_in_a_sentence_are_set_as_code_and_the_rest_is_escaped():
    assert formatting.said("see `a <b>` & c") == "See <code>a &lt;b&gt;</code> &amp; c"


# --- what nobody sees ---


def test_whatever_unicode_calls_a_control_or_a_bidi_control_is_hidden_and_what_scripts_need_is_not():
    signs = [chr(code) for code in range(0x110000)]
    controls = {c for c in signs if unicodedata.category(c) == "Cc"} - {"\t", "\n", "\r"}
    bidi = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
    hidden = {c for c in signs if HIDDEN.search(c)}
    assert controls | bidi <= hidden
    assert not [c for c in hidden if c.isprintable()], "what is seen stays"
    for text in ("क्\u200dष", "👩\u200d💻", "Straße", "שלום", "\u0604\u0661", "soft\u00adhyphen", "a\tb\r\nc"):
        assert visible(text) == text
    assert visible("\u202egpj.exe\r\x1b[2J") == r"\u202egpj.exe\r\x1b[2J"


def test_a_page_writes_them_as_escapes_in_markup_too_and_a_field_keeps_them():
    assert formatting.shown("a\u202eb") == r"a\u202eb"
    assert formatting.shown(formatting.breakable("<a\x07@b>")) == r"&lt;a\x07<wbr>@b&gt;"
    assert isinstance(formatting.shown(formatting.breakable("a\x07@b")), Markup)
    assert formatting.shown(7) == 7
    assert formatting.exact('"\u202e') == "&#34;&#8238;"


def test_a_cell_of_a_csv_holds_none_of_them_and_no_formula():
    cells = ("a\u202eb", "\u200b=1+1", "two\nlines", "\x00=1", "=1+1")
    assert csv_line(cells).decode() == 'a\\u202eb,\\u200b=1+1,"two\nlines",\\x00=1,\'=1+1\r\n'


def test_times_in_a_sentence_of_ours_are_those_of_the_page():
    said = "It is not due before 2025-03-01 23:30:00 UTC, nor is 2025-99-01 10:00:00 UTC."
    assert (
        formatting.local(said, "Asia/Tokyo") == "It is not due before 2025-03-02 08:30, nor is 2025-99-01 10:00:00 UTC."
    )
    assert formatting.full(NOON, "Asia/Tokyo") == "2026-11-21 21:10:00 JST"


# --- a mail in a frame ---

HINTS = [
    '<link rel="preconnect" href="https://a.example">',
    "<LINK/rel=dns-prefetch href=//a.example>",
    "<!--><link rel=preconnect href=//a.example>-->",
    "<noscript><link\nrel=preload href=//a.example as=image></noscript>",
    "<template shadowrootmode=open><link\frel=stylesheet href=//a.example></template>",
    "<svg><title><link\trel=prefetch href=//a.example></title></svg>",
    '<meta http-equiv="refresh" content="0;url=https://a.example">',
    "<meta content=on http-equiv=x-dns-prefetch-control>",
    '<iframe srcdoc="&lt;link rel=preconnect href=//a.example&gt;"></iframe>',
    "<link",
]


class _First(HTMLParser):
    """The attributes of each element; of two with one name the first."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(reversed(attrs))))


@pytest.mark.parametrize("html", HINTS)
def test_no_element_of_a_mail_has_a_browser_connect_to_strangers(html):
    shown = without_hints(html)
    assert not re.search(r"<link\b", shown, re.IGNORECASE)
    reader = _First()
    reader.feed(shown)
    for tag, attributes in reader.found:
        assert tag != "link"
        assert tag != "meta" or attributes["http-equiv"] == ""
        assert tag != "iframe" or attributes["srcdoc"] == ""


def test_what_a_mail_looks_like_stays():
    html = "<style>p { color: red }</style><p class=x>&lt;link&gt; <linkage> <metadata></p>"
    assert without_hints(html) == html
    assert 'name="viewport"' in without_hints('<meta name="viewport" content="width=device-width">')


def test_no_column_of_a_table_is_without_a_name():
    for template in (STATIC.parent / "templates").glob("*.html"):
        assert not re.findall(r"<th>\s*</th>", template.read_text(encoding="utf-8")), template.name


def test_searches_are_remembered_up_to_a_number_and_the_same_one_once():
    searches = Searches(most=2)
    first = searches.keep("ann")
    assert searches.keep("ann") == first
    second, third = searches.keep("bob"), searches.keep("cat")
    assert [searches.find(name) for name in (first, second, third)] == [None, "bob", "cat"]


# --- colours ---


def palettes():
    """The colour variables, light and dark."""
    css = (STATIC / "console.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    first = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return {"light": first, "dark": first | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark))}


def luminance(colour):
    """Relative luminance (WCAG 2.2)."""
    linear = []
    for at in (1, 3, 5):
        value = int(colour[at : at + 2], 16) / 255
        linear.append(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast ratio (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = [
    *((ink, paper) for ink in ("ink", "quiet", "link", "good", "warn", "bad") for paper in ("card", "page")),
    *(("on-accent", "accent"), ("ink", "idle-soft"), ("link", "note-soft")),
    *(("good", "good-soft"), ("warn", "warn-soft"), ("bad", "bad-soft"), ("ink", "warn-soft"), ("link", "warn-soft")),
]
SHAPES = [("accent", "card"), ("quiet", "card"), *((f"bar-{part}", "card") for part in ("sent", "deferred", "failed"))]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_read_has_the_contrast_of_wcag_aa(theme):
    colours = palettes()[theme]
    low = {pair: contrast(*(colours[name] for name in pair)) for pair in TEXT}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_seen_has_the_contrast_of_wcag_aa(theme):
    colours = palettes()[theme]
    low = {pair: contrast(*(colours[name] for name in pair)) for pair in SHAPES}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 3} == {}


def test_every_colour_is_a_variable_that_both_themes_know():
    css = (STATIC / "console.css").read_text(encoding="utf-8")
    rules = css[css.index("* { box-sizing") :]
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == ["#fff"], "the paper on which a mail is shown"
    assert set(re.findall(r"var\(--([\w-]+)\)", rules)) <= set(palettes()["light"])


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (0, ("half within 1.0 s", "nearly all (95 %) within 1.0 s")),
        (10, ("half within 1.0 s", "more than 5 % took over 1 d")),
        (60, ("more than half took over 1 d", "more than 5 % took over 1 d")),
    ],
)
def test_mails_that_took_longer_than_is_measured_are_said_to_have_taken_longer(late, said):
    counts = (*(100 - late if upper >= 1 else 0 for upper in LAGS), 100)
    told = lag_told(Histogram(counts, 0.0))
    assert told
    assert tuple(part.replace("\N{NO-BREAK SPACE}", " ") for part in told) == said


def test_nothing_is_said_of_how_long_no_mails_took():
    assert lag_told(Histogram((0,) * (len(LAGS) + 1), 0.0)) is None
