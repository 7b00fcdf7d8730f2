"""``mailbatch doctor``: tries each part, and says what is wrong and what to do.

More than 300 lines, because the checks of all parts stand side by side, each with its own texts.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from tempfile import gettempdir
from typing import TYPE_CHECKING

import click

from mailbatch.domain.errors import MailbatchError, NotMigrated
from mailbatch.domain.job_name import SEND_ALL
from mailbatch.interfaces.cli.output import as_json, clean, print_json
from mailbatch.interfaces.cli.session import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from celery import Celery
    from redis import Redis
    from sqlalchemy.engine import Engine

    from mailbatch.application.looking.waiting import RenderWaiting
    from mailbatch.application.looking.watch import Watch
    from mailbatch.bootstrap import Parts
    from mailbatch.bootstrap.transports import Relay
    from mailbatch.config import Settings
    from mailbatch.infrastructure.redis.keys import Keys
    from mailbatch.infrastructure.redis.lock import RedisLock

LONGEST = 10.0
"""Seconds that a check may take; a connect may take five."""
_SMTP_TIMEOUT = 5.0
_RENDERING = 4.0
"""Seconds for rendering waiting mails, and for one of them."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check. ``ok=None``: nothing is wrong, but there is something to know."""

    check: str
    ok: bool | None
    found: str
    advice: str = ""


@click.command
@as_json
def doctor(*, as_json: bool) -> None:
    """Check settings, database, Redis, Celery, relay and workers, and say what to do. Exit code 1 if one check fails.

    Database and Redis are tried with everything that a run does there; no trace remains. Waiting mails are rendered
    for some seconds, the newest first.
    """
    with opened(migrated=False, slips=False) as parts:
        findings = [_bounded(name, check) for name, check in _checks(parts).items()]
        if all(finding.ok for finding in findings if finding.check == "database"):
            findings += [_bounded(name, check) for name, check in _checks_of_tables(parts).items()]
    if as_json:
        print_json(
            [{"check": f.check, "ok": f.ok is not False, "found": f.found, "advice": f.advice} for f in findings]
        )
    else:
        for finding in findings:
            _print(finding)
    if any(finding.ok is False for finding in findings):
        click.get_current_context().exit(1)


def _print(finding: CheckResult) -> None:
    mark = {True: click.style("ok   ", fg="green"), False: click.style("wrong", fg="red"), None: "note "}[finding.ok]
    advice = f"; {finding.advice}" if finding.advice else ""
    click.echo(f"{mark}  {finding.check:<9} {clean(finding.found + advice)}")


def _checks(parts: Parts) -> dict[str, Callable[[], CheckResult]]:
    """Return the checks by name. Each makes the parts that it uses, so that an error of these is its finding."""
    from mailbatch.batch.producer import celery_app

    return {
        "settings": lambda: _settings(parts.settings),
        "folders": lambda: _folders(parts.settings),
        "database": lambda: _database(parts.engine),
        "redis": lambda: _redis(parts.redis, parts.keys, parts.lock(SEND_ALL)),
        "celery": lambda: _celery(celery_app(parts.identity)),
        **{name: partial(_smtp, name, relay) for name, relay in _relays(parts).items()},
        "workers": lambda: _workers(celery_app(parts.identity)),
    }


def _checks_of_tables(parts: Parts) -> dict[str, Callable[[], CheckResult]]:
    return {
        "runs": lambda: _runs(parts.operating.watch(SEND_ALL)),
        "mails": lambda: _mails(parts.operating.render_waiting),
    }


def _bounded(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    """Return the finding of ``check``, or that it took too long: a name server, for example, may never respond."""
    found: list[CheckResult] = []

    def run() -> None:
        try:
            found.append(check())
        except Exception as error:  # noqa: BLE001 - every error here is a finding
            # An error that names the command to run needs no more advice.
            advice = "" if isinstance(error, NotMigrated) else _advice(name)
            found.append(CheckResult(name, ok=False, found=_in_a_line(error), advice=advice))

    # A daemon thread: it must not delay the end of the process.
    thread = threading.Thread(target=run, name=f"doctor-{name}", daemon=True)
    thread.start()
    thread.join(LONGEST)
    late = CheckResult(name, ok=False, found=f"no answer within {LONGEST:g} s", advice=_advice(name))
    return found[0] if found else late


def _advice(name: str) -> str:
    """Return the advice of a check. Those of several relays have one name with that of the relay behind it."""
    return _ADVICE[name.partition(" ")[0]]


def _settings(settings: Settings) -> CheckResult:
    from mailbatch.config import short_tokens, unknown_variables

    if unknown := unknown_variables():
        return CheckResult("settings", ok=False, found=" ".join(unknown), advice="rename or remove it")
    to_know = short_tokens(settings)
    if settings.redirect_all_to:
        to_know.append(f"every mail goes to {settings.redirect_all_to}, because MAILBATCH_REDIRECT_ALL_TO is set")
    elif not settings.sender:
        to_know.append("MAILBATCH_SENDER is not set: mails without a sender of their own fail")
    if to_know:
        return CheckResult("settings", ok=None, found=". ".join(to_know))
    where = f", templates in {settings.template_dir}" if settings.template_dir else ""
    return CheckResult("settings", ok=True, found=f"sender {settings.sender}{where}")


def _folders(settings: Settings) -> CheckResult:
    """Try the folders of this host that mails need: while one cannot be used, mails wait for it."""
    from mailbatch.domain.errors import ResourceAway
    from mailbatch.infrastructure.shared_folder import cannot_be_opened, is_empty
    from mailbatch.infrastructure.spool import Spool

    wrong, empty, fine = list[str](), list[str](), list[str]()
    for what, folder in (("attachments", settings.attachment_dir), ("templates", settings.template_dir)):
        if folder is not None:
            try:
                (empty if is_empty(folder) else fine).append(f"{what} in {folder}")
            except OSError as error:
                wrong.append(f"{what}: {cannot_be_opened(folder, error)}")
    try:
        Spool(settings.spool_dir).put([b"doctor"])
        fine.append(f"temporary files in {settings.spool_dir or gettempdir()}")
    except ResourceAway as error:
        wrong.append(str(error))
    if wrong:
        return CheckResult("folders", ok=False, found="; ".join(wrong), advice=_ADVICE["folders"])
    if empty:
        found = f"there are no {', and no '.join(empty)}: the folder is empty"
        return CheckResult("folders", ok=None, found=found, advice="if something belongs there, is it mounted?")
    return CheckResult("folders", ok=True, found=", ".join(fine))


def _database(engine: Engine) -> CheckResult:
    from mailbatch.infrastructure.db.location import place
    from mailbatch.infrastructure.db.migrate import ensure_whole
    from mailbatch.infrastructure.db.preflight import check_tables
    from mailbatch.infrastructure.db.revision import head

    ensure_whole(engine)
    between = _between(engine)
    if between is not None and not between.ok:
        return between
    check_tables(engine)
    found = f"{place(engine)}, tables at revision {head()}, takes what a run writes"
    return CheckResult("database", ok=True, found=f"{found}{f', {between.found}' if between else ''}")


def _between(engine: Engine) -> CheckResult | None:
    """Return the finding about a connection pooler in front of the database; None if there is none."""
    if engine.dialect.name != "postgresql":
        return None
    from mailbatch.infrastructure.db.driver_errors import UNPREPARED
    from mailbatch.infrastructure.db.location import place
    from mailbatch.infrastructure.db.poolers import find

    pooler = find(engine)
    if pooler is None:
        return None
    if pooler.forgets:
        found = f"{place(engine)} is behind a pooler in transaction mode, where prepared statements fail"
        return CheckResult("database", ok=False, found=found, advice=UNPREPARED)
    mode = " in transaction mode" if pooler.shares else ""
    return CheckResult("database", ok=True, found=f"behind a pooler{mode}")


def _redis(redis: Redis, keys: Keys, lock: RedisLock) -> CheckResult:
    from redis import RedisError

    from mailbatch.infrastructure.redis.client import explain, place_of
    from mailbatch.infrastructure.redis.lock import ADVICE
    from mailbatch.infrastructure.redis.preflight import check_commands, eviction_policy

    try:
        check_commands(redis, keys)
        policy = eviction_policy(redis)
    except RedisError as error:
        found, advice = explain(error)
        return CheckResult("redis", ok=False, found=f"{place_of(redis)}: {found}", advice=advice or _ADVICE["redis"])
    holder = lock.holder()
    if holder is None:
        state = "the lock of send-all is free"
    elif holder.other_database is not None:
        found = f"the lock of send-all is held by {holder.owner} for another database, {holder.other_database}"
        return CheckResult("redis", ok=False, found=found, advice=ADVICE)
    elif holder.expires_in == float("inf"):
        advice = f"delete the key {lock.key}, which was set by hand"
        return CheckResult("redis", ok=False, found="the lock of send-all never ends", advice=advice)
    else:
        state = f"the lock of send-all is held by {holder.owner}"
    if policy is not None:
        found = f"{place_of(redis)} drops keys when it is full (maxmemory-policy {policy}), and with them calls"
        return CheckResult("redis", ok=None, found=found, advice="set maxmemory-policy noeviction")
    return CheckResult("redis", ok=True, found=f"{place_of(redis)} takes what a run writes, {state}")


def _celery(app: Celery) -> CheckResult:
    """Try broker and result backend as a worker uses them."""
    from kombu.exceptions import OperationalError
    from redis import RedisError

    from mailbatch.batch.preflight import MessageLost, check_broker, check_result_backend
    from mailbatch.infrastructure.redis.client import explain

    for what, check in (("broker", check_broker), ("result backend", check_result_backend)):
        try:
            check(app)
        except (RedisError, OperationalError, MessageLost) as error:
            found, advice = explain(error)
            return CheckResult("celery", ok=False, found=f"{what}: {found}", advice=advice or _ADVICE["redis"])
    return CheckResult("celery", ok=True, found="broker and result backend carry calls, broadcasts and results")


def _relays(parts: Parts) -> dict[str, Relay]:
    """Return the relays by the names of their checks."""
    relays = [one.relay for one in parts.sending.relays]
    return {"smtp": relays[0]} if len(relays) == 1 else {f"smtp {relay.name}": relay for relay in relays}


def _smtp(name: str, relay: Relay) -> CheckResult:
    from mailbatch.bootstrap.transports import check_relay

    try:
        return CheckResult(name, ok=True, found=check_relay(relay, _SMTP_TIMEOUT))
    except MailbatchError as error:
        return CheckResult(name, ok=False, found=f"{relay.name}: {_in_a_line(error)}", advice=_ADVICE["smtp"])


def _workers(app: Celery) -> CheckResult:
    from kombu.exceptions import OperationalError

    from mailbatch.batch.worker_inspection import find_workers

    try:
        answered = find_workers(app)
    except OperationalError as error:
        found = f"cannot be asked without their broker: {_in_a_line(error)}"
        return CheckResult("workers", ok=False, found=found, advice=_ADVICE["redis"])
    if answered.consumers and answered.silent:
        name = answered.consumers[0]
        found = f"{name} is alive but answers no call (worker_enable_remote_control is off), so no revoke ends a run"
        return CheckResult("workers", ok=None, found=found, advice="end a run by `mailbatch pause --all`")
    if answered.consumers:
        return CheckResult("workers", ok=True, found=f"{answered.consumers[0]} answers")
    if answered.others:
        found = f"{answered.others[0]} answers, but no worker takes the queue {answered.queue}, into which calls go"
        return CheckResult("workers", ok=False, found=found, advice=_ADVICE["workers"])
    return CheckResult("workers", ok=None, found="none answers", advice=_ADVICE["workers"])


def _runs(watch: Watch) -> CheckResult:
    from mailbatch.domain.finding import ALL_IS_WELL, Level

    found = watch(SEND_ALL)
    if not found:
        return CheckResult("runs", ok=True, found=ALL_IS_WELL)
    bad = any(finding.level is Level.ERROR for finding in found)
    return CheckResult(
        "runs", ok=False if bad else None, found="; ".join(f.what for f in found), advice=found[0].advice
    )


def _mails(render_waiting: Callable[[float], AbstractContextManager[RenderWaiting]]) -> CheckResult:
    """Return the finding about waiting mails that cannot be rendered now."""
    until = time.monotonic() + _RENDERING
    with render_waiting(_RENDERING) as render:
        looked = render(lambda: time.monotonic() > until)
    many = f"{looked.rendered} waiting mails" if looked.whole else f"the newest {looked.rendered} waiting mails"
    if looked.broken:
        found = f"{looked.broken} of {many} cannot be rendered; {looked.example}"
        return CheckResult("mails", ok=None, found=found, advice=_ADVICE["mails"])
    return CheckResult("mails", ok=True, found=f"{many} can be rendered" if looked.rendered else "none waits")


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


_ADVICE: dict[str, str] = {
    "settings": "see docs/reference/settings.md",
    "folders": "mount the folder, or give the worker access to it; mails that need it wait and lose no attempt",
    "database": "check MAILBATCH_DATABASE_URL and that the server runs",
    "redis": "check MAILBATCH_REDIS_URL and that the server runs",
    "celery": "check MAILBATCH_BROKER_URL, MAILBATCH_RESULT_BACKEND and celeryconfig.py",
    "smtp": "check MAILBATCH_SMTP_URL (or the file MAILBATCH_RELAYS) and that the relay takes mail from this host",
    "runs": "see `mailbatch status`",
    "mails": "`mailbatch preview ID` shows one; docs/reference/templates.md says what a template can write",
    "workers": "start one with `celery -A mailbatch worker -B`",
}
