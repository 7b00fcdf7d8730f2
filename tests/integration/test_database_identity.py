"""The identity of real databases: what it survives, and that a copy has another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from mailbatch.domain.errors import StoreError
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.identity import identify


def identity_of(url: str):
    engine = connect(url)
    try:
        return identify(engine)
    finally:
        engine.dispose()


def test_every_connection_to_a_database_finds_the_same_identity(database_url):
    assert identity_of(database_url) == identity_of(database_url)


def test_a_copy_of_a_file_is_another_database_and_another_name_of_it_is_not(sqlite_url, tmp_path):
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    shutil.copy(file, tmp_path / "copy.db")
    os.link(file, tmp_path / "link.db")
    ours = identity_of(sqlite_url)
    assert ours.is_other_than(identity_of(f"sqlite:///{tmp_path / 'copy.db'}"))
    assert not ours.is_other_than(identity_of(f"sqlite:///{tmp_path / 'link.db'}"))


def test_a_file_that_is_gone_is_an_error_in_our_words(sqlite_url):
    Path(sqlite_url.removeprefix("sqlite:///")).unlink()
    with pytest.raises(StoreError, match="No such file"):
        identity_of(sqlite_url)


def test_a_copy_in_the_same_server_is_another_database(postgres_server, postgres_template, postgres_url):
    copy = postgres_server.create_database(postgres_template)
    try:
        ours, theirs = identity_of(postgres_url), identity_of(postgres_server.url(copy))
    finally:
        postgres_server.drop_database(copy)
    assert ours.system == theirs.system
    assert ours.is_other_than(theirs)


def test_a_role_without_rights_finds_the_same_identity(postgres_url):
    engine = connect(postgres_url)
    role = "poor_" + engine.url.database
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
    poor = connect(engine.url.set(username=role).render_as_string(hide_password=False))
    try:
        assert identify(poor) == identify(engine)
        assert identify(poor).system is not None
        with engine.begin() as connection:
            connection.execute(sa.text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
        assert identify(poor).system is None
        assert not identify(poor).is_other_than(identify(engine))
    finally:
        poor.dispose()
        with engine.begin() as connection:
            connection.execute(sa.text("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC"))
            connection.execute(sa.text(f"DROP ROLE {role}"))
        engine.dispose()


def test_the_schema_is_the_one_in_which_our_tables_are_found(postgres_url):
    engine = connect(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "Mail-Batch"'))
        connection.execute(sa.text('CREATE TABLE "Mail-Batch".mail_reservations (id text)'))
    other = connect(
        engine.url.update_query_dict({"options": '-csearch_path="Mail-Batch",public'}).render_as_string(False)
    )
    try:
        assert (identify(engine).schema, identify(other).schema) == ("public", "Mail-Batch")
        assert identify(engine).is_other_than(identify(other))
    finally:
        other.dispose()
        engine.dispose()
