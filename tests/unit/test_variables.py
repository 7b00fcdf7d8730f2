"""Variables of the environment that look like settings and are none."""

from __future__ import annotations

import pytest

from mailbatch.config import Settings, unknown_variables


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONECTIONS", "CONNECTIONS"),
        ("SENDR", "SENDER"),
        ("SCHEDUEL", "SCHEDULE"),
        ("DATABASE", "DATABASE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("SMPT_URL", "SMTP_URL"),
        ("REDIS", "REDIS_URL"),
        ("TEMPLATES_DIR", "TEMPLATE_DIR"),
        ("TEMPLATE_DIRECTORY", "TEMPLATE_DIR"),
        ("RETENTION", "RETENTION_DAYS"),
        ("TOKEN", "API_TOKEN"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("MAX_ATTEMPT", "MAX_ATTEMPTS"),
        ("ONDOUBT", "ON_DOUBT"),
        ("LANE", "LANES"),
        ("TIME_ZONE", "TIMEZONE"),
        ("REDIRECT_TO", "REDIRECT_ALL_TO"),
        ("SMTP_SERVER", "SMTP_URL"),
        ("MAX_MESSAGE_SIZE", "MAX_MESSAGE_BYTES"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(name, meant):
    said = f"MAILBATCH_{name} is no setting; did you mean MAILBATCH_{meant}?"
    assert unknown_variables({f"MAILBATCH_{name}": "secret"}) == [said]


def test_of_two_that_are_as_near_both_are_named():
    [line] = unknown_variables({"MAILBATCH_DB_URL": "x"})
    assert {"MAILBATCH_REDIS_URL", "MAILBATCH_DATABASE_URL?"} <= set(line.split())


def test_no_other_variable_is_named():
    kubernetes = ["PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP"]
    kubernetes += ["SERVE_SERVICE_HOST", "SERVE_PORT", "SERVE_PORT_8000_TCP_PROTO"]
    others = ["IMAGE", "VERSION", "HOST", "DEBUG", "HOME"]
    settings = [name.upper() for name in Settings.model_fields]
    environ = dict.fromkeys([f"MAILBATCH_{name}" for name in (*kubernetes, *others, *settings)], "x")
    assert unknown_variables({**environ, "mailbatch_sender": "x", "BATCH_CONECTIONS": "x", "SENDR": "x"}) == []
