"""What a page says in words, colours and bars, without a server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("fastapi")

from mailbatch.interfaces.console import words
from mailbatch.interfaces.console.chart import BARS, HEIGHT, draw
from mailbatch.interfaces.console.screen import STATIC
from mailbatch.interfaces.console.searches import Searches

NOON = datetime(2026, 11, 21, 12, 10, tzinfo=UTC)


def run(ago: timedelta, **counts):
    return {"started_at": NOON - ago, "sent": 0, "failed": 0, "deferred": 0, "in_doubt": 0, "expired": 0, **counts}


def test_the_chart_puts_each_run_into_its_half_hour():
    chart = draw(
        [run(timedelta(minutes=5), sent=80, failed=20), run(timedelta(minutes=15), sent=48, in_doubt=2)], NOON, "UTC"
    )
    assert len(chart.bars) == BARS
    before, last = chart.bars[-2:]
    assert last.told == "12:00–12:30: 80 sent, 20 failed, 1 run"
    assert before.told == "11:30–12:00: 48 sent, 2 in doubt, 1 run"
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
    assert words.span(seconds) == told


def test_commands_in_a_sentence_are_set_as_code_and_the_rest_is_escaped():
    assert words.said("see `a <b>` & c") == "See <code>a &lt;b&gt;</code> &amp; c"


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
