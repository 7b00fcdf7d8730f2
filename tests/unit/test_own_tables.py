"""Which tables of a database, or of an application's models, stand for ours."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from mailbatch.infrastructure.db.tables import VERSION_TABLE, is_ours, mail_files

OURS = mail_files.columns.keys()


def table(name: str, *columns: str) -> sa.Table:
    return sa.Table(name, sa.MetaData(), *(sa.Column(column, sa.Text) for column in columns))


@pytest.mark.parametrize("columns", [OURS, OURS[:2], [*OURS, "colour"]])
def test_a_table_with_our_name_and_our_columns_is_ours(columns):
    assert is_ours(table("mail_files", *columns))


def test_the_version_table_is_ours_by_its_name():
    assert is_ours(table(VERSION_TABLE, "anything"))


@pytest.mark.parametrize("columns", [["colour"], [*OURS[1:], "colour"]])
def test_a_table_with_our_name_and_other_columns_is_somebody_elses(columns):
    assert not is_ours(table("mail_files", *columns))


def test_another_name_and_no_table_at_all_are_not_ours():
    assert not is_ours(table("orders", *OURS))
    assert not is_ours(None)
