"""The wheel: one package that brings its tables and Celery's settings, and works in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.stack import Stack

ROOT = Path(__file__).resolve().parents[2]


class Installed:
    """The wheel in a venv of its own, which borrows everything else from the one that runs the tests."""

    def __init__(self, folder: Path) -> None:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        wheels = folder / "wheels"
        run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
        (self.wheel,) = wheels.iterdir()
        self.venv = folder / "venv"
        run(sys.executable, "-m", "venv", "--without-pip", str(self.venv))
        self.python = self.venv / "bin" / "python"
        run(*pip, "--python", str(self.python), "install", "--no-deps", "--no-index", str(self.wheel))
        (self.site,) = self.venv.glob("lib/python*/site-packages")
        self.brought = {entry.name for entry in self.site.iterdir()}
        # A path in a .pth file is not searched for .pth files itself: the editable install stays unseen.
        borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (self.site / "borrowed.pth").write_text("\n".join(borrowed))


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def stack(tmp_path: Path, redis_url: str):
    """An empty folder, a SQLite file, no SMTP server."""
    database = f"sqlite:///{tmp_path / 'data.db'}"
    with Stack(database, redis_url, "smtp://127.0.0.1:1", tmp_path / "empty") as stack:
        stack.folder.mkdir()
        yield stack


def celery(installed: Installed) -> tuple[str, ...]:
    return (str(installed.python), "-m", "celery", "-A", "mailbatch")


def test_it_brings_one_package_and_nothing_beside_it(installed):
    assert installed.wheel.name.startswith("mailbatch-")
    assert {name for name in installed.brought if not name.endswith(".dist-info")} == {"mailbatch"}
    package = installed.site / "mailbatch"
    for brought in (
        "celeryconfig.py",
        "py.typed",
        "migrations/env.py",
        "migrations/versions/mailbatch_0001_contract.py",
    ):
        assert (package / brought).is_file(), brought
    assert not list(package.rglob("test*"))


def test_it_is_the_wheel_that_is_tested_not_the_checkout(installed, stack):
    done = stack.run(str(installed.python), "-c", "import mailbatch; print(mailbatch.__file__)")
    assert done.stdout.strip() == str(installed.site / "mailbatch" / "__init__.py")


def test_its_commands_work_in_an_empty_folder(installed, stack):
    mailbatch = str(installed.venv / "bin" / "mailbatch")
    migrated = stack.run(mailbatch, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    reserved = stack.run(mailbatch, "reserve", "--to", "a@example.com", "--subject", "s", "--text", "t")
    assert reserved.returncode == 0, reserved.stderr
    demo = stack.run(mailbatch, "demo")
    assert demo.returncode == 1
    assert "run the demo in a checkout of mailbatch" in demo.stderr
    assert not (stack.folder / "var").exists()


def test_its_worker_and_beat_run_with_the_settings_that_it_brings(installed, stack):
    stack.run(str(installed.venv / "bin" / "mailbatch"), "migrate")
    worker = stack.process(*celery(installed), "worker", "-B", "-c", "2", "--loglevel", "INFO")
    worker.wait_for_log(r"job finished: send-all, completed", 30)


def test_a_celeryconfig_in_the_working_directory_is_laid_over_the_one_it_brings(installed, stack):
    ask = "from mailbatch.celery import app; print(app.conf.worker_concurrency, app.conf.task_default_queue)"
    assert stack.run(str(installed.python), "-c", ask).stdout.split() == ["None", "mailbatch"]
    (stack.folder / "celeryconfig.py").write_text("worker_concurrency = 7\n")
    assert stack.run(str(installed.python), "-c", ask).stdout.split() == ["7", "mailbatch"]
    report = stack.run(*celery(installed), "report")
    assert report.returncode == 0, report.stderr
    assert "worker_concurrency: 7" in report.stdout
