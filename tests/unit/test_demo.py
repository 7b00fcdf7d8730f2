"""What the demo is careful with, and what it takes for right."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click
import pytest

from mailbatch.interfaces.cli.demo import find_examples
from mailbatch.interfaces.cli.demo_results import Expected
from mailbatch.interfaces.cli.stack import MARK, claim


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    with pytest.raises(click.ClickException, match="is not empty and no demo made it"):
        claim(tmp_path)
    assert precious.read_text() == "years of work"
    assert not (tmp_path / MARK).exists()


def test_what_an_earlier_demo_left_is_wiped_and_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = tmp_path / "demo"
    claim(folder).close()
    (folder / "inbox" / "pages").mkdir(parents=True)
    (folder / "worker.log").touch()
    (folder / "link").symlink_to(outside)
    claim(folder).close()
    assert [entry.name for entry in folder.iterdir()] == [MARK]
    assert (outside / "precious").exists()


def test_a_folder_serves_one_demo_at_a_time(tmp_path):
    with claim(tmp_path):
        (tmp_path / "mailbatch.db").touch()
        with pytest.raises(click.ClickException, match="a demo is running in"):
            claim(tmp_path)
        assert (tmp_path / "mailbatch.db").exists()
    claim(tmp_path).close()


def test_what_the_demo_expects_is_what_the_examples_hold():
    spec = importlib.util.spec_from_file_location("examples_generate", find_examples() / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, generate)
        spec.loader.exec_module(generate)
    mails = [*generate.csv_mails(1), *generate.jsonl_mails(1)]
    addressed = [[mail.get(name) for name in ("recipients", "cc", "bcc") if mail.get(name)] for mail in mails]
    refused = [lists for lists in addressed if "refused." in str(lists)]
    assert Expected() == Expected(
        reserved=len(mails),
        unreadable=generate.CSV_BAD + generate.JSONL_BAD,
        refused=len(refused),
        shared=sum(str(lists).count("@") > 1 for lists in refused),
        deferred=sum("deferred." in str(lists) for lists in addressed),
    )


def test_without_examples_the_demo_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mailbatch.__file__", str(tmp_path / "site-packages" / "mailbatch" / "__init__.py"))
    with pytest.raises(click.ClickException, match=f"no examples at {tmp_path}/examples"):
        find_examples()


def test_the_examples_of_the_checkout_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_examples() == Path(__file__).resolve().parents[2] / "examples"
