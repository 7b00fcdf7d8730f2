"""The real app in a real worker, through pytest-celery: it starts, sends, stops when told, and outlives its broker."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.smoke

MANY = 160


def everybody(count):
    return sorted(f"to-{n}@example.com" for n in range(1, count + 1))


def test_a_worker_starts_and_sends_what_is_due(mailing, celery_setup):
    celery_setup.worker.assert_log_exists("send-all")
    assert mailing.run()["outcome"] == "completed"
    mailing.reserve(20)
    report = mailing.run()
    assert (report["outcome"], report["sent"], report["remaining"]) == ("completed", 20, 0)
    assert mailing.recipients() == everybody(20)


def test_a_revoked_run_stops_and_the_next_one_sends_the_rest(mailing, celery_setup, slow_sink):
    mailing.reserve(MANY)
    run = mailing.start()
    slow_sink.wait_for(10)
    celery_setup.app.control.revoke(run.id)
    report = run.get(timeout=10)
    assert report["outcome"] == "revoked"
    assert 0 < report["remaining"] < MANY
    assert mailing.run()["outcome"] == "completed"
    assert mailing.recipients() == everybody(MANY)


def test_a_warm_shutdown_stops_the_run_between_two_mails(mailing, celery_setup, slow_sink):
    mailing.reserve(MANY)
    run = mailing.start()
    slow_sink.wait_for(10)
    celery_setup.worker.kill("SIGTERM")
    assert run.get(timeout=10)["outcome"] == "shutdown"
    celery_setup.worker.assert_log_exists("Warm shutdown", timeout=5)
    celery_setup.worker.restart()
    assert mailing.run()["outcome"] == "completed"
    assert mailing.recipients() == everybody(MANY)


def test_a_worker_survives_the_restart_of_its_broker(mailing, celery_setup):
    celery_setup.broker.restart()
    celery_setup.worker.wait_for_log("Connection to broker lost", timeout=20)
    mailing.reserve(20)
    assert mailing.run(timeout=40)["outcome"] == "completed"
    assert mailing.recipients() == everybody(20)


def test_a_run_survives_the_restart_of_the_broker(mailing, celery_setup, slow_sink):
    mailing.reserve(MANY)
    run = mailing.start()
    slow_sink.wait_for(10)
    celery_setup.broker.restart()
    assert run.get(timeout=40)["outcome"] in {"completed", "lock_lost"}
    mailing.run_to_the_end()
    assert mailing.recipients() == everybody(MANY)


def test_a_restarted_worker_goes_on(mailing, celery_setup):
    mailing.reserve(20)
    assert mailing.run()["sent"] == 20
    celery_setup.worker.restart()
    assert celery_setup.ready(control=True)
    assert mailing.run()["outcome"] == "completed"
    assert mailing.recipients() == everybody(20)
