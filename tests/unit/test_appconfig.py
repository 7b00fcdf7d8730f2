"""Celery's settings: ours, and over them those of the working directory."""

from __future__ import annotations

import pytest
from celery import Celery

from mailbatch import config
from mailbatch.batch.appconfig import load, other_prefix, redis_url
from mailbatch.batch.schedule import BatchSchedule
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.schedule import Cron, Every


def test_without_a_file_ours_hold(tmp_path):
    settings = load(tmp_path)
    assert settings["imports"] == ("mailbatch.batch.tasks",)
    entry = settings["beat_schedule"]["send-all"]
    assert entry["schedule"] == BatchSchedule(Every(300), at_start=True)
    assert entry["options"] == {"expires": 290}
    assert settings["task_default_queue"] == "mailbatch"
    assert (settings["task_acks_late"], settings["worker_disable_prefetch"]) == (False, True)
    assert "task_time_limit" not in settings


def test_the_settings_say_when_and_with_what_jitter_after_a_start(tmp_path, monkeypatch):
    monkeypatch.setenv("MAILBATCH_SCHEDULE", "30 */2 * * * *")
    monkeypatch.setenv("MAILBATCH_START_JITTER", "7")
    entry = load(tmp_path)["beat_schedule"]["send-all"]
    assert entry["schedule"] == BatchSchedule(Cron("30 */2 * * * *"), jitter=7)
    assert entry["options"]["expires"] == 110


@pytest.mark.parametrize(
    ("schedule", "said", "at_start", "missed"),
    [
        ("300", "", True, True),
        ("300", "auto", True, True),
        ("300", "no", False, False),
        ("0 6 * * *", "", False, True),
        ("0 6 * * *", "auto", False, True),
        ("0 0 6 * * *", "auto", False, True),
        ("0 6 * * *", "yes", True, True),
        ("0 6 * * *", "no", False, False),
    ],
)
def test_an_interval_ticks_at_a_start_and_a_cron_line_makes_up_unless_it_is_said_otherwise(
    tmp_path, monkeypatch, schedule, said, at_start, missed
):
    monkeypatch.setenv("MAILBATCH_SCHEDULE", schedule)
    monkeypatch.setenv("MAILBATCH_RUN_AT_START", said)
    found = load(tmp_path)["beat_schedule"]["send-all"]["schedule"]
    assert (found.at_start, found.missed) == (at_start, missed)


def test_what_is_no_word_for_a_run_at_the_start_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MAILBATCH_RUN_AT_START", "sometimes")
    with pytest.raises(SettingsError, match=r"^MAILBATCH_RUN_AT_START=sometimes: must be 'auto', 'yes' or 'no'$"):
        load(tmp_path)


@pytest.mark.parametrize(("schedule", "seconds"), [("300", 5), ("1", 1), ("*/2 * * * * *", 1), ("0 3 * * *", 5)])
def test_beat_looks_about_it_more_often_where_ticks_are_near(tmp_path, monkeypatch, schedule, seconds):
    monkeypatch.setenv("MAILBATCH_SCHEDULE", schedule)
    assert load(tmp_path)["beat_max_loop_interval"] == seconds


def test_the_checkouts_own_file_is_not_laid_over_itself(monkeypatch):
    from mailbatch.batch import appconfig

    assert load(appconfig._defaults().parent)["imports"] == ("mailbatch.batch.tasks",)


def test_a_name_replaces_ours_mappings_are_merged_and_imports_added(tmp_path):
    (tmp_path / "celeryconfig.py").write_text(
        "import os\nresult_expires = 60\nimports = 'mine'\nbeat_schedule = {'mine': {'task': 'mine', 'schedule': 5}}\n"
        "broker_transport_options = {'socket_timeout': 9}\n_private = 1\ndef helper(): ...\n"
    )
    settings = load(tmp_path)
    assert settings["result_expires"] == 60
    assert settings["imports"] == ("mailbatch.batch.tasks", "mine")
    assert set(settings["beat_schedule"]) == {"send-all", "mine"}
    assert settings["broker_transport_options"]["global_keyprefix"] == "mailbatch:"
    assert settings["broker_transport_options"]["socket_timeout"] == 9
    assert not {"os", "_private", "helper", "config", "redis_url", "BatchSchedule"} & set(settings)


def test_celerys_keys_begin_with_the_namespace(tmp_path, monkeypatch):
    monkeypatch.setenv("MAILBATCH_NAMESPACE", "shop-staging")
    settings = load(tmp_path)
    for name in ("broker_transport_options", "result_backend_transport_options"):
        assert settings[name]["global_keyprefix"] == "shop-staging:"
    assert settings["task_default_queue"] == "mailbatch"
    assert other_prefix(settings) is None


@pytest.mark.parametrize("name", ["broker_transport_options", "result_backend_transport_options"])
@pytest.mark.parametrize("prefix", ["mailbatch:", "", None, "shop-staging", "shop-staging.", 7])
def test_another_prefix_than_the_namespace_that_is_set_is_refused(tmp_path, monkeypatch, name, prefix):
    monkeypatch.setenv("MAILBATCH_NAMESPACE", "shop-staging")
    (tmp_path / "celeryconfig.py").write_text(f"{name} = {{'global_keyprefix': {prefix!r}}}\n")
    with pytest.raises(SettingsError, match=rf"celeryconfig\.py: {name} .*MAILBATCH_NAMESPACE=shop-staging") as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


def test_who_had_a_prefix_before_there_was_a_namespace_keeps_it_and_is_told(tmp_path):
    (tmp_path / "celeryconfig.py").write_text("broker_transport_options = {'global_keyprefix': 'shop:'}\n")
    settings = load(tmp_path)
    assert settings["broker_transport_options"]["global_keyprefix"] == "shop:"
    assert "'shop:'" in other_prefix(settings)


@pytest.mark.parametrize(
    "name", ["", " ", "two words", "a{b}", "*", "a:b", "-a", ".", "ä", "a\nb", "a" * 65, "a" * 300, "mailbatch\n"]
)
def test_a_bad_namespace_is_refused_in_one_line(monkeypatch, name):
    monkeypatch.setenv("MAILBATCH_NAMESPACE", name)
    with pytest.raises(SettingsError, match=r"^MAILBATCH_NAMESPACE=.*must be 1 to 64 letters") as told:
        config.load()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["a", "7", "Shop_2.staging-eu", "a" * 64])
def test_a_good_namespace_is_taken(monkeypatch, name):
    monkeypatch.setenv("MAILBATCH_NAMESPACE", name)
    assert config.load().namespace == name


@pytest.mark.parametrize("name", ["send-all", "nightly"])
@pytest.mark.parametrize("kwargs", ["", ", 'kwargs': {}", ", 'kwargs': None"])
def test_an_entry_of_the_users_own_that_calls_our_task_ticks_as_beat(tmp_path, name, kwargs):
    entry = f"{{'task': 'send-all', 'schedule': 60{kwargs}}}"
    (tmp_path / "celeryconfig.py").write_text(f"beat_schedule = {{{name!r}: {entry}, 'mine': {{'task': 'mine'}}}}\n")
    entries = load(tmp_path)["beat_schedule"]
    assert entries[name]["kwargs"] == {"trigger": "beat"}
    assert entries[name]["schedule"] == 60
    assert entries["mine"] == {"task": "mine"}


def test_a_trigger_that_an_entry_names_itself_stays(tmp_path):
    entry = "{'task': 'purge', 'schedule': 60, 'kwargs': {'trigger': 'manual'}}"
    (tmp_path / "celeryconfig.py").write_text(f"beat_schedule = {{'mine': {entry}, 'odd': 7}}\n")
    entries = load(tmp_path)["beat_schedule"]
    assert entries["mine"]["kwargs"] == {"trigger": "manual"}
    assert entries["odd"] == 7


BOTH = "task_queues = [Queue('mailbatch'), Queue('shop')]; task_default_queue = 'shop'"


def queue_of(tmp_path, task: str) -> str:
    with Celery("test", set_as_current=False) as app:
        app.config_from_object(load(tmp_path))
        return app.amqp.router.route({}, task)["queue"].name


@pytest.mark.parametrize(
    ("written", "ours", "theirs"),
    [
        ("", "mailbatch", "mailbatch"),
        ("task_default_queue = 'shop'", "shop", "shop"),
        ("task_queues = [Queue('shop')]; task_default_queue = 'shop'", "shop", "shop"),
        ("task_queues = [Queue('mailbatch'), Queue('shop')]", "mailbatch", "mailbatch"),
        (BOTH, "mailbatch", "shop"),
        ("task_queues = {'mailbatch': {}, 'shop': {}}; task_default_queue = 'shop'", "mailbatch", "shop"),
        (f"{BOTH}; task_routes = {{'send-all': {{'queue': 'shop'}}}}", "shop", "shop"),
        (f"{BOTH}; task_routes = [{{'other': {{'queue': 'shop'}}}}]", "mailbatch", "shop"),
    ],
)
def test_our_calls_go_into_our_queue_or_where_there_is_none_into_the_default(tmp_path, written, ours, theirs):
    (tmp_path / "celeryconfig.py").write_text(f"from kombu import Queue\n{written}\n")
    assert (queue_of(tmp_path, "send-all"), queue_of(tmp_path, "mine")) == (ours, theirs)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("task_queues = [Queue('shop')]", "task_queues lacks 'mailbatch'"),
        ("task_queues = [Queue('shop')]; task_default_queue = 'other'", "task_queues lacks 'other'"),
        ("task_queues = 7", "task_queues must be a list of queues, not int"),
        ("task_default_queue = None", "task_default_queue must be the name of a queue, not None"),
        ("task_default_queue = ''", "task_default_queue must be the name of a queue, not ''"),
    ],
)
def test_queues_into_which_no_call_could_go_are_refused_in_one_line(tmp_path, written, said):
    (tmp_path / "celeryconfig.py").write_text(f"from kombu import Queue\n{written}\n")
    with pytest.raises(SettingsError, match=rf"celeryconfig\.py: {said}") as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["beat_schedule", "broker_transport_options"])
def test_a_mapping_that_is_none_is_told_in_one_line(tmp_path, name):
    (tmp_path / "celeryconfig.py").write_text(f"{name} = 7\n")
    with pytest.raises(SettingsError, match=rf"celeryconfig\.py: {name} must be a mapping, not int"):
        load(tmp_path)


def test_a_broken_file_is_told_in_one_line(tmp_path):
    (tmp_path / "celeryconfig.py").write_text("x = (\n")
    with pytest.raises(SettingsError, match=r"celeryconfig\.py: SyntaxError: .*line 1") as told:
        load(tmp_path)
    assert "\n" not in str(told.value)


def test_purge_is_scheduled_only_where_something_is_to_be_removed(tmp_path, monkeypatch):
    assert set(load(tmp_path)["beat_schedule"]) == {"send-all"}
    monkeypatch.setenv("MAILBATCH_RETENTION_DAYS", "30")
    monkeypatch.setenv("MAILBATCH_TIMEZONE", "Europe/Berlin")
    purge = load(tmp_path)["beat_schedule"]["purge"]["schedule"]
    assert purge == BatchSchedule(Cron("17 3 * * *", "Europe/Berlin"))


def test_time_limits_stand_well_above_the_runs_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MAILBATCH_RUN_TIMEOUT", "600")
    settings = load(tmp_path)
    assert 600 < settings["task_soft_time_limit"] < settings["task_time_limit"]


@pytest.mark.parametrize(
    ("ours", "celerys"),
    [
        ("redis://:pw@h:1/2", "redis://:pw@h:1/2"),
        ("redis+socket:///r.sock?virtual_host=1", "redis+socket:///r.sock?virtual_host=1"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
        ("unix://:pw@/run/r.sock", "redis+socket://:pw@/run/r.sock?virtual_host=0"),
        ("rediss://h/0", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
    ],
)
def test_a_redis_url_is_spelled_as_celery_does(ours, celerys):
    assert redis_url(ours) == celerys


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("redis://:geheim@h/0?foo=1", "foo"),
        ("redis://:geheim@h/0?socket_timeout=1", "socket_timeout"),
        ("redis://:geheim@h/0?db=1", "db"),
        ("redis://:geheim@h/0?virtual_host=1", "virtual_host"),
        ("unix://:geheim@/run/redis?foo=1", "foo"),
    ],
)
def test_an_option_that_celery_does_not_know_is_said_at_the_start(url, option):
    with pytest.raises(SettingsError, match=f"knows no option {option}") as refused:
        redis_url(url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://h/0?connect_timeout=3", "redis+socket:///run/redis?virtual_host=1"])
def test_options_that_celery_knows_stay(url):
    assert redis_url(url) == url
