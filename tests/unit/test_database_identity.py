"""What tells two databases from each other, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from mailbatch.domain.database import DatabaseIdentity, read_identity
from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db.identity import identify

SHOP = DatabaseIdentity(kind="postgresql", system=7712949197311570113, number=16384, name="shop", schema="public")
FILE = DatabaseIdentity(kind="sqlite", system=66305, number=1234, name="/srv/mailbatch.db")


@pytest.mark.parametrize("identity", [SHOP, FILE, replace(SHOP, system=None, schema=None), replace(SHOP, name="Zoë's")])
def test_it_is_read_as_it_was_written_in_one_line_of_ascii(identity):
    text = identity.encode()
    assert read_identity(text) == identity
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    "other",
    [
        replace(SHOP, system=8),  # a dump restored into another cluster
        replace(SHOP, number=16385),  # a database dropped and made anew
        replace(SHOP, name="staging", number=16385),
        replace(SHOP, name="staging"),
        replace(SHOP, schema="staging"),
        FILE,
    ],
)
def test_another_database_is_told_from_ours(other):
    assert SHOP.is_other_than(other)
    assert other.is_other_than(SHOP)


@pytest.mark.parametrize("same", [SHOP, replace(SHOP, system=None), replace(SHOP, schema=None)])
def test_what_one_side_may_not_read_counts_as_equal(same):
    assert not SHOP.is_other_than(same)
    assert not same.is_other_than(SHOP)


def test_a_file_is_known_by_device_and_inode_wherever_it_is_mounted():
    assert not FILE.is_other_than(replace(FILE, name="/data/mailbatch.db"))
    assert FILE.is_other_than(replace(FILE, number=1235))
    assert FILE.is_other_than(replace(FILE, system=1))


@pytest.mark.parametrize(
    "junk",
    [
        None,
        7,
        b"{}",
        {},
        [],
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        SHOP.encode().replace("postgresql", "oracle"),
        SHOP.encode().replace("16384", '"16384"'),
        SHOP.encode().replace('"public"', "7"),
        SHOP.encode().replace('"schema"', '"scheme"'),
        SHOP.encode()[:-1],
    ],
)
def test_what_anybody_else_wrote_is_no_identity(junk):
    assert read_identity(junk) is None


@pytest.mark.parametrize("identity", [SHOP, FILE])
def test_a_person_reads_which_database_it_is(identity):
    assert identity.name in str(identity)
    assert str(identity.number) in str(identity)
    assert str(identity.system) in str(identity)


def test_a_file_that_is_not_there_has_no_identity(tmp_path):
    with pytest.raises(StoreError, match=r"absent\.db: No such file"):
        identify(sa.create_engine(f"sqlite:///{tmp_path}/absent.db"))
