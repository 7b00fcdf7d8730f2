"""The parameters of a database URL."""

from __future__ import annotations

import re

import pytest

from mailbatch.infrastructure.db.url_parameters import read_parameters
from mailbatch.infrastructure.db.urls import read_database_url

POSTGRES, SQLITE = "postgresql+psycopg://u:geheim@h/x", "sqlite:///x.db"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_because_the_workers_would_not_share_it(url):
    with pytest.raises(ValueError, match="must name a file: an SQLite database in memory is not shared"):
        read_database_url(url)


@pytest.mark.parametrize(
    ("text", "value"), [("none", None), ("None", None), ("null", None), ("0", 0), ("5", 5), ("1000", 1000)]
)
def test_the_threshold_of_prepared_statements_is_a_number_or_none(text, value):
    assert read_parameters(f"{POSTGRES}?prepare_threshold={text}").connection == {"prepare_threshold": value}


@pytest.mark.parametrize(
    ("query", "engine"),
    [
        ("pool_size=2", {"pool_size": 2}),
        ("max_overflow=-1", {"max_overflow": -1}),
        ("pool_timeout=2.5", {"pool_timeout": 2.5}),
        ("pool_recycle=300", {"pool_recycle": 300}),
        ("pool_pre_ping=false", {"pool_pre_ping": False}),
        ("pool_use_lifo=yes", {"pool_use_lifo": True}),
        ("pool_size=1&max_overflow=0", {"pool_size": 1, "max_overflow": 0}),
    ],
)
@pytest.mark.parametrize("url", [POSTGRES, SQLITE])
def test_the_pools_parameters_reach_the_pool_and_no_connection(url, query, engine):
    found = read_parameters(f"{url}?{query}")
    assert (found.engine, found.connection, found.url) == (engine, {}, {})


@pytest.mark.parametrize(
    ("query", "connection"),
    [
        ("connect_timeout=3", {"connect_timeout": 3}),
        ("keepalives=0", {"keepalives": 0}),
        ("sslmode=verify-full&sslrootcert=/a%20b.pem", {"sslmode": "verify-full", "sslrootcert": "/a b.pem"}),
        ("application_name=shop", {"application_name": "shop"}),
        ("options=-c%20search_path%3Dmail", {"options": "-c search_path=mail"}),
        ("client_encoding=UTF-8", {"client_encoding": "utf8"}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
    ],
)
def test_what_libpq_knows_reaches_the_connection_in_its_type(query, connection):
    assert read_parameters(f"{POSTGRES}?{query}").connection == connection


def test_hosts_may_be_given_more_than_once():
    found = read_parameters("postgresql+psycopg://u@/x?host=/a&host=/b&prepare_threshold=none")
    assert found.url == {"host": ("/a", "/b")}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"{POSTGRES}?prepare_threshold=often", "prepare_threshold must be none (for a pooler: prepare no statement)"),
        (f"{POSTGRES}?prepare_threshold=-1", "prepare_threshold must be none"),
        (f"{POSTGRES}?pool_size=many", "pool_size must be an integer from 0 on"),
        (f"{POSTGRES}?pool_size=-1", "pool_size must be an integer from 0 on"),
        (f"{POSTGRES}?pool_timeout=nan", "pool_timeout must be seconds above 0"),
        (f"{POSTGRES}?pool_pre_ping=perhaps", "pool_pre_ping must be true or false"),
        (f"{POSTGRES}?pool_size=1&pool_size=2", "pool_size is given more than once"),
        (f"{POSTGRES}?connect_timeout=soon", "connect_timeout must be an integer from 0 on"),
        (f"{POSTGRES}?keepalives=2", "keepalives must be an integer from 0 to 1"),
        (f"{POSTGRES}?client_encoding=latin1", "client_encoding must be utf8"),
        (f"{POSTGRES}?autocommit=true", "autocommit cannot be set: mailbatch begins and ends its transactions"),
        (f"{POSTGRES}?pgbouncer=true", "pgbouncer is no parameter of PostgreSQL; mailbatch calls it prepare_threshold"),
        (f"{POSTGRES}?poolclass=NullPool", "poolclass is no parameter of PostgreSQL; mailbatch calls it pool_size"),
        (f"{POSTGRES}?ssl=true", "ssl is no parameter of PostgreSQL; mailbatch calls it sslmode=require"),
        (f"{POSTGRES}?sslmod=require", "sslmod is no parameter of PostgreSQL; did you mean sslmode?"),
        (f"{POSTGRES}?x=1", "x is no parameter of PostgreSQL; see docs/reference/settings.md"),
        (f"{SQLITE}?timeout=-1", "timeout must be seconds above 0"),
        (f"{SQLITE}?mode=ro", "mode needs a file named by URI"),
        (f"{SQLITE}?check_same_thread=true", "check_same_thread must be false"),
        (f"{SQLITE}?isolation_level=EXCLUSIVE", "isolation_level cannot be set: mailbatch begins and ends"),
        (f"{SQLITE}?prepare_threshold=none", "prepare_threshold is no parameter of SQLite"),
        (f"{SQLITE}?busy_timeout=9", "busy_timeout is no parameter of SQLite; mailbatch calls it timeout (seconds)"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_name(url, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read_parameters(url)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert "geheim" not in str(refused.value)
