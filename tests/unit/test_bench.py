"""The bench's arithmetic, and what it says of the interpreter."""

from __future__ import annotations

import pytest

from bench.machine import optimised
from bench.paired import interval


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        ("'--enable-optimizations' '--with-lto'", "built with optimisations"),
        ("'--prefix=/usr' '--with-wheel-pkg-dir=/usr/share/python-wheels/'", "built by Debian, with optimisations"),
        ("'--prefix=/home/me/.pyenv/versions/3.12.1' '--enable-shared'", "not optimised"),
        ("", "not optimised"),
    ],
)
def test_the_bench_says_whether_its_python_was_built_with_optimisations(configured, said):
    assert optimised(configured) == said


def test_a_change_that_costs_five_percent_lies_above_the_allowance():
    ratio, low, high = interval([1.05, 1.06, 1.04, 1.05, 1.05, 1.06, 1.04, 1.05, 1.05, 1.06, 1.04])
    assert ratio == pytest.approx(1.05, abs=0.001)
    assert 1.03 < low < ratio < high < 1.07


def test_noise_around_one_lies_within_the_allowance():
    _, low, high = interval([0.9, 1.1, 1.0, 0.95, 1.05, 1.0, 0.9, 1.1, 1.0, 0.95, 1.05])
    assert low < 1 < high
