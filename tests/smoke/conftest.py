"""pytest-celery's nodes on local processes; on Docker containers of our own image with SMOKE_DOCKER=1."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pytest_celery import CeleryTestSetup, CeleryTestWorker, RedisTestBackend, RedisTestBroker
from pytest_docker_tools import build, container, fxtr
from support.containers import DockerWorkerContainer, LocalRedisContainer, LocalWorkerContainer
from support.stack import Stack
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from celery.result import AsyncResult
    from support.sink import Sink

DOCKER = os.environ.get("SMOKE_DOCKER") == "1"
ROOT = Path(__file__).parents[2]
WORKER = ("-c", "2")


class MailbatchSetup(CeleryTestSetup):
    """A client that knows of us what the contract says, and imports nothing of ours: queue and key prefix."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        """Speak to the workers as ``celery -A mailbatch`` does."""
        prefix = {"global_keyprefix": "mailbatch:"}
        app.conf.update(
            broker_transport_options=prefix, result_backend_transport_options=prefix, task_default_queue="mailbatch"
        )


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    return MailbatchSetup


@pytest.fixture
def celery_broker(request: pytest.FixtureRequest) -> Iterator[RedisTestBroker]:
    node = request.getfixturevalue("celery_redis_broker") if DOCKER else RedisTestBroker(LocalRedisContainer.launch())
    yield node
    node.teardown()


@pytest.fixture
def celery_backend(request: pytest.FixtureRequest) -> Iterator[RedisTestBackend]:
    node = request.getfixturevalue("celery_redis_backend") if DOCKER else RedisTestBackend(LocalRedisContainer.launch())
    yield node
    node.teardown()


@pytest.fixture
def slow_sink(smtp_sink: Sink) -> Sink:
    """A relay so slow that a run of some hundred mails lasts seconds."""
    smtp_sink.latency = 0.02
    smtp_sink.restart()
    return smtp_sink


@pytest.fixture
def worker_env(
    postgres_url: str, slow_sink: Sink, tmp_path: Path, celery_worker_cluster_config: dict[str, Any]
) -> dict[str, str]:
    """What the worker is told: our settings, with broker and backend apart, as pytest-celery has them."""
    # The host's network: what we reach, it reaches.
    broker = celery_worker_cluster_config["celery_broker_cluster_config"]["host_urls"][0]
    backend = celery_worker_cluster_config["celery_backend_cluster_config"]["host_urls"][0]
    settings = {"BROKER_URL": broker, "RESULT_BACKEND": backend, "CONNECTIONS": 2, "WINDOW": 8}
    stack = Stack(postgres_url, backend, slow_sink.url, tmp_path / "stack", settings)
    if DOCKER:
        return {name: value for name, value in stack.env.items() if name.startswith(("MAILBATCH_", "PYTHON"))}
    return stack.env


mailbatch_image = build(path=str(ROOT))
docker_worker = container(
    image="{mailbatch_image.id}",
    command=DockerWorkerContainer.command(*WORKER),
    environment=fxtr("worker_env"),
    network_mode="host",
    # PostgreSQL's socket is there.
    volumes={"/tmp": {"bind": "/tmp", "mode": "rw"}},  # noqa: S108
    wrapper_class=DockerWorkerContainer,
    timeout=60,
)


@pytest.fixture
def celery_worker(
    request: pytest.FixtureRequest, worker_env: dict[str, str], tmp_path: Path, celery_setup_app: Celery
) -> Iterator[CeleryTestWorker]:
    if DOCKER:
        wrapped = request.getfixturevalue("docker_worker")
    else:
        wrapped = LocalWorkerContainer.launch(worker_env, tmp_path, *WORKER)
    node = CeleryTestWorker(wrapped, app=celery_setup_app)
    yield node
    node.teardown()


class Mailing:
    """What a test of this ring does: reserve by plain SQL, start runs, look at what arrived."""

    def __init__(self, app: Celery, database_url: str, sink: Sink) -> None:
        self._app, self._sink = app, sink
        self._address = database_url.replace("+psycopg", "")

    def reserve(self, count: int) -> None:
        """Reserve ``count`` mails, as any language would."""
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO mail_reservations (recipients, subject, body_text) "
                "SELECT 'to-' || n || '@example.com', 'Hello', 'Text' FROM generate_series(1, %s) n",
                [count],
            )

    def start(self) -> AsyncResult[Any]:
        """Start a run by its name."""
        return self._app.send_task("send-all")

    def run(self, timeout: float = 30.0) -> dict[str, Any]:
        """Start a run and wait for its report."""
        report: dict[str, Any] = self.start().get(timeout=timeout)
        return report

    def run_to_the_end(self) -> None:
        """Run until nothing is left: a run that was cut off may hold its lease for a while."""
        wait_until(lambda: self.run()["remaining"] == 0 and self._is_done(), 60, "everything is sent")

    def recipients(self) -> list[str]:
        """Who got a mail, sorted; somebody who got two stands there twice."""
        return sorted(mail.recipients[0] for mail in self._sink.accepted())

    def _is_done(self) -> bool:
        with psycopg.connect(self._address, autocommit=True) as connection:
            left = connection.execute("SELECT count(*) FROM mail_reservations WHERE status <> 'sent'").fetchone()
        return left == (0,)


@pytest.fixture
def mailing(celery_setup: CeleryTestSetup, postgres_url: str, slow_sink: Sink) -> Mailing:
    """The real app behind pytest-celery's setup, once its worker answers."""
    assert celery_setup.ready(control=True)
    return Mailing(celery_setup.app, postgres_url, slow_sink)
