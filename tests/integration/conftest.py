"""Commands, run in the tests' own process; databases, receivers and certificates of several modules."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme
from support.receiver import Receiver

from mailbatch.interfaces.cli import caller, main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker answers commands of this process: where a test here starts one, its commands are processes too."""
    monkeypatch.setattr("mailbatch.batch.worker_inspection.REPLY_TIMEOUT", 0.1)
    monkeypatch.setattr("mailbatch.batch.worker_inspection.EVENT_TIMEOUT", 0.1)


@pytest.fixture
def say(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command under no settings but those given; answers its exit code, and what it said."""
    for name in [name for name in os.environ if name.startswith(("MAILBATCH_", "SUDO_"))]:
        monkeypatch.delenv(name)
    # Nobody is logged in, whoever runs the tests.
    monkeypatch.setattr(caller, "LOGIN", tmp_path / "loginuid")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*args: str, **settings: str) -> tuple[int, str, str]:
        for name, value in settings.items():
            monkeypatch.setenv(f"MAILBATCH_{name}", value)
        code = main.run(list(args))
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def module_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database of a test module, which empties its tables itself: it runs once on each kind."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("module") / "mailbatch.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server = request.getfixturevalue("postgres_server")
    url: str = server.url(server.create_database(request.getfixturevalue("postgres_template")))
    return url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server that takes the posts of webhooks."""
    with closing(Receiver()) as one:
        yield one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of the test module."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file with its certificate."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)
