"""The life of a mail through the generated client: ``walk.py ADDRESS TOKEN``. It ends at the first surprise."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from typing import Any
from uuid import UUID

from generated_client import AuthenticatedClient, api, models
from httpx import Timeout

OPERATIONS = {
    found.name.partition("_api_")[0]: import_module(found.name)
    for found in pkgutil.walk_packages(api.__path__, "generated_client.api.")
    if not found.ispkg
}


def asker(address: str, token: str) -> Any:
    """A function that calls the operation of a name, and returns what its response was read as."""
    client = AuthenticatedClient(base_url=address, token=token, raise_on_unexpected_status=True, timeout=Timeout(60))
    by_name = {name.rpartition(".")[2]: module for name, module in OPERATIONS.items()}

    def ask(name: str, *path: Any, **given: Any) -> Any:
        return by_name[name].sync(*path, client=client, **given)

    return ask


def walk(ask: Any) -> None:
    mail = models.ReservationIn.from_dict(
        {
            "recipients": ["Ann <ann@example.com>"],
            "subject": "Your order {{ number }}",
            "body_text": "It is on its way.",
            "context": {"number": 4711},
            "tag": "python",
        }
    )
    reserved = ask("reserve", body=mail)
    assert isinstance(reserved, models.Reserved)
    own = reserved.id
    assert isinstance(own, UUID)
    page = ask("list_reservations", tag="python")
    assert ([item.id for item in page.items], page.next_) == ([own], None)
    assert ask("explain", own).status is models.Status.PENDING
    assert ask("preview_stored", own).subject == "Your order 4711"

    assert ask("pause", body=models.PauseIn()).pause is models.Pause.TICKS
    running = ask("is_running")
    assert (running.running, running.pause, str(running.paused)) == (False, models.Pause.TICKS, "ticks")
    standing = ask("status")
    assert (standing.pause, standing.due, standing.down) == (models.Pause.TICKS, 1, [])
    resumed = ask("resume")
    assert (resumed.pause, resumed.paused) == (models.Pause.NONE, False)

    assert ask("cancel", own).status is models.Status.CANCELLED
    refused = ask("resolve", own)
    assert isinstance(refused, models.ProblemDocument)
    assert refused.status == 409
    assert ask("restore", own).status is models.Status.PENDING

    report = ask("run_now", wait=30)
    assert isinstance(report, models.Report), report
    assert (report.outcome, report.sent) == (models.RunOutcome.COMPLETED, 1)
    sent = ask("show", own)
    assert (sent.status, sent.reply_code, sent.mail_attempts) == (models.Status.SENT, 250, [])
    assert ask("list_runs").items[0].run_id == report.run_id
    assert ask("show_run", report.run_id).sent == 1
    assert ask("list_errors", report.run_id).items == []
    assert "mailbatch_" in ask("metrics_metrics_get")

    only = models.FilterIn(tag="python", status="sent")
    preview = ask("bulk", models.Act.DELETE, body=models.BulkIn(filter_=only))
    assert isinstance(preview, models.BulkPreview)
    done = ask("bulk", models.Act.DELETE, body=models.BulkIn(filter_=only, confirm=preview.confirm))
    assert isinstance(done, models.BulkDone)
    assert done.changed == 1
    assert isinstance(ask("show", own), models.ProblemDocument)
    assert ask("actions").items[0].action == "delete"


if __name__ == "__main__":
    walk(asker(*sys.argv[1:]))
