"""The bench's arithmetic, and what it says of the interpreter and of the parts."""

from __future__ import annotations

from pathlib import Path

import pytest

import mailbatch
from bench.machine import optimised
from bench.paired import interval
from bench.shares import PARTS, Measured, part_of, table


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


def test_every_part_of_the_cpu_time_is_a_package_or_module_that_exists():
    package = Path(mailbatch.__file__).parent
    found = {name: package / name.replace(".", "/") for name in PARTS}
    assert [name for name, path in found.items() if not path.is_dir() and not path.with_suffix(".py").is_file()] == []


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("mailbatch.infrastructure.mime.addresses", PARTS["infrastructure.mime.addresses"]),
        ("mailbatch.infrastructure.mime.words", PARTS["infrastructure.mime"]),
        ("mailbatch.application.sending.relay_health.judge", "verdicts"),
        ("mailbatch.domain.message", None),
        ("mailbatch", None),
        ("sqlalchemy.engine.base", None),
        ("batch.tasks", None),
    ],
)
def test_a_module_belongs_to_the_part_that_names_it_most_closely(module, part):
    assert part_of(module) == part


def test_the_shares_of_a_mail_are_means_of_the_rounds_and_add_up():
    rounds = [
        Measured(parts=parts, collecting=1, thread=100, process=110, database=50, samples=9)
        for parts in ({"MIME": 60.0, "rendering": 40.0}, {"MIME": 90.0, "SMTP": 10.0})
    ]
    assert table(rounds).splitlines()[2:] == [
        "| MIME | 75% | 75 µs |",
        "| rendering | 20% | 20 µs |",
        "| SMTP | 5% | 5 µs |",
    ]
