"""The settings on the screen, completion, and our commands among Celery's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mailbatch.interfaces.cli.catalogue import COMMANDS

CANARY = "s3cr3t-canary"


def test_each_setting_is_shown_with_its_value_and_its_source(say):
    code, out, _ = say("config", "show", "--json", LANES="3", SENDER="Shop <shop@example.com>")
    shown = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert shown["MAILBATCH_LANES"] == {"name": "MAILBATCH_LANES", "value": "3", "source": "environment"}
    assert shown["MAILBATCH_WINDOW"] == {"name": "MAILBATCH_WINDOW", "value": "32", "source": "default"}
    assert shown["MAILBATCH_WEBHOOK_URL"]["value"] is None


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_is_shown(say, form):
    secrets = {
        "DATABASE_URL": f"postgresql://app:{CANARY}@db/mail",
        "REDIS_URL": f"redis://:{CANARY}@redis:6379/0",
        "SMTP_URL": f"smtp://app:{CANARY}@relay:587",
        "WEBHOOK_URL": f"https://hooks.example.com/services/{CANARY}",
        "WEBHOOK_SECRET": CANARY,
        "API_TOKEN": CANARY,
        "API_READ_TOKEN": CANARY,
    }
    code, out, err = say("config", "show", *form, **secrets)
    assert code == 0, err
    assert CANARY not in out + err
    assert "hooks.example.com" in out


def test_settings_in_order_are_said_to_be(say):
    code, out, _ = say("config", "check", LANES="2")
    assert (code, out) == (0, "the settings are in order: 1 from the environment, the others by default\n")


def test_a_slip_in_a_name_is_told_with_the_name_that_was_meant(say):
    code, _, err = say("config", "check", CONECTIONS="2")
    assert code == 1
    assert err == "mailbatch: MAILBATCH_CONECTIONS is no setting; did you mean MAILBATCH_CONNECTIONS?\n"


def test_a_bad_value_costs_a_line_and_exit_code_2(say):
    code, _, err = say("config", "check", LANES="many")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "MAILBATCH_LANES=many" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_completion(say, shell):
    code, out, _ = say("completion", shell)
    assert code == 0
    assert "_MAILBATCH_COMPLETE" in out


def test_commands_and_options_are_completed(tmp_path):
    env = {
        **os.environ,
        "_MAILBATCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "mailbatch sta",
        "COMP_CWORD": "1",
    }
    argv = [sys.executable, "-m", "mailbatch.interfaces.cli.main"]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,status"]


def test_all_commands_are_completed_without_importing_them(tmp_path):
    script = (
        "import os, sys; os.environ |= {'_MAILBATCH_COMPLETE': 'zsh_complete', 'COMP_WORDS': 'mailbatch ', "
        "'COMP_CWORD': '1'}; from mailbatch.interfaces.cli.main import cli\n"
        "try: cli.main([], 'mailbatch')\n"
        "except SystemExit: sys.exit(str({'sqlalchemy', 'pydantic', 'rich'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "status\nShow the current status." in done.stdout
    assert done.stdout.splitlines().count("plain") == len(COMMANDS)
    assert done.stderr.strip() == ""


def test_our_commands_stand_among_celerys(tmp_path):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("MAILBATCH_")}, "MAILBATCH_LANES": "5"}
    argv = [sys.executable, "-m", "celery", "-A", "mailbatch", "mailbatch", "config", "show", "--json"]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {"name": "MAILBATCH_LANES", "value": "5", "source": "environment"} in json.loads(done.stdout)


def test_a_mistake_under_celery_costs_a_line_too(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAILBATCH_")}
    argv = [sys.executable, "-m", "celery", "-A", "mailbatch", "mailbatch", "show", "no-id"]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("mailbatch: ")


def test_help_imports_nothing_heavy(tmp_path):
    script = (
        "import sys; from mailbatch.interfaces.cli.main import run; run(['--help']); "
        "heavy = {'sqlalchemy', 'celery', 'pydantic', 'jinja2', 'rich', 'redis', 'fastapi'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plus_sign_in_the_name_of_a_file_of_authorities_is_one(say, tmp_path):
    (tmp_path / "a+b.pem").touch()
    code, _, err = say("config", "check", SMTP_URL=f"smtps://relay?ca_file={tmp_path}/a+b.pem")
    assert (code, err) == (0, "")
