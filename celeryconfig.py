"""Celery's own settings and the schedule. mailbatch's settings are environment variables: docs/reference/settings.md.

A ``celeryconfig.py`` in the working directory overrides this one. Its ``beat_schedule`` and ``imports`` are added to
these.
"""

from mailbatch import config
from mailbatch.batch.appconfig import redis_url
from mailbatch.batch.schedule import BatchSchedule
from mailbatch.domain.schedule import Cron, RunAtStart

_settings = config.load()
_send_all = BatchSchedule(
    _settings.when,
    at_start=_settings.runs_at_start,
    missed=_settings.run_at_start is not RunAtStart.NO,
    jitter=_settings.start_jitter,
)
_nightly = BatchSchedule(Cron("17 3 * * *", _settings.timezone))

imports = ("mailbatch.batch.tasks",)

# --- the schedule ---
beat_schedule = {
    "send-all": {
        "task": "send-all",
        "schedule": _send_all,
        "kwargs": {"trigger": "beat"},
        # A tick is useless if no worker takes it before the next one is near.
        "options": {"expires": _send_all.tick_expiry()},
    },
}
if _settings.retention_days:
    beat_schedule["purge"] = {
        "task": "purge",
        "schedule": _nightly,
        "kwargs": {"trigger": "beat"},
        "options": {"expires": _nightly.tick_expiry()},
    }
beat_scheduler = "mailbatch.batch.scheduler:DatabaseScheduler"
# After how many seconds beat sees a pause, a resume or another beat's tick; fewer if ticks follow quickly.
beat_max_loop_interval = min(5, max(1, _send_all.tick_expiry()))
timezone = _settings.timezone
enable_utc = True

# --- the broker ---
broker_url = redis_url(_settings.broker_url or _settings.redis_url)
broker_connection_retry_on_startup = True
# The default gives up after 100 attempts; a worker must survive any outage of Redis.
broker_connection_max_retries = None
broker_transport_options = {
    "global_keyprefix": f"{_settings.namespace}:",
    "visibility_timeout": 3600,
    "health_check_interval": 25,
    # Without these timeouts a frozen Redis freezes the worker, so that even SIGTERM has no effect.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
}
task_default_queue = "mailbatch"
task_create_missing_queues = False

# --- messages ---
# All mails are in the database, and a message only starts a worker. So it is acknowledged before the task runs.
# A redelivered message would start the same run twice. A late acknowledgement also crashes the worker of Celery 5.7
# when Redis goes away (`'NoneType' object has no attribute 'hostname'`).
task_acks_late = False
task_reject_on_worker_lost = False
# A worker takes a message only when it has a free process. Otherwise a busy worker would collect ticks.
worker_disable_prefetch = True
worker_prefetch_multiplier = 1
# A run continues without Redis as long as it holds its lock. Celery 6 changes this default.
worker_cancel_long_running_tasks_on_connection_loss = False
# JSON only: unpickling a message may run foreign code.
task_serializer = result_serializer = "json"
accept_content = result_accept_content = ["json"]

# --- results ---
result_backend = redis_url(_settings.result_backend or _settings.redis_url)
result_backend_transport_options = {"global_keyprefix": f"{_settings.namespace}:"}
redis_socket_timeout = redis_socket_connect_timeout = 5
# The result of a run that ended while Redis was away is stored later. Retries end, so that the worker is not blocked.
result_backend_always_retry = True
result_backend_max_retries = 10
result_expires = 86_400
result_extended = True
# Otherwise another worker marks a running task as revoked, as if it had ended.
task_track_started = True
task_ignore_result = False

# --- events for Flower ---
worker_send_task_events = True
task_send_sent_event = True

# --- the worker ---
if _settings.run_timeout:
    # A run ends by itself at RUN_TIMEOUT, between two mails. These limits are for a run that cannot.
    task_soft_time_limit = _settings.run_timeout + 300
    task_time_limit = _settings.run_timeout + 360
# In KiB; checked when a task has ended.
worker_max_memory_per_child = 400_000
# Seconds to stop between two mails, after SIGQUIT, or after SIGTERM with REMAP_SIGTERM=SIGQUIT.
worker_soft_shutdown_timeout = 30
worker_hijack_root_logger = False
worker_redirect_stdouts = False
