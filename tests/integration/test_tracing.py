"""The steps of a mail are spans in the trace in which it was reserved."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.api import Api
from support.backlogs import database, reserve, states
from support.smtpfault import FaultServer
from support.stack import Stack

from mailbatch import client
from mailbatch.application.sending.send_due import SendDue
from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts, read_settings
from mailbatch.domain.errors import InvalidReservation
from mailbatch.infrastructure.db.tables import mail_traces
from mailbatch.infrastructure.tracing import enabled as enabling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from support.smtpfault import Session

WAY = ["mailbatch.reserve", "mailbatch.claim", "mailbatch.compose", "mailbatch.smtp", "mailbatch.settle"]


def whoever(session: Session) -> None:
    if "refused" in session.command:
        session.say("550 5.1.1 <refused@example.org>: no such user")
    else:
        session.ordinary()


@pytest.fixture
def recorded(monkeypatch) -> InMemorySpanExporter:
    """Return the spans that the provider of this process receives."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def parts(database_url, monkeypatch) -> Iterator[Parts]:
    with FaultServer({"rcpt": whoever}) as relay:
        monkeypatch.setenv("MAILBATCH_DATABASE_URL", database_url)
        monkeypatch.setenv("MAILBATCH_SMTP_URL", f"smtp://127.0.0.1:{relay.port}?starttls=off")
        monkeypatch.setenv("MAILBATCH_SENDER", "sender@example.org")
        made = Parts(read_settings())
        yield made
        made.close()


def reserve_in_a_trace(url: str, to: str, text: str = "Hello") -> int:
    """Reserve one mail inside a span of the caller. Return the id of its trace."""
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("order") as span, database(url) as connection:
        client.reserve(connection, to=to, subject="s", text=text)
    return span.get_span_context().trace_id


def named(spans: list[ReadableSpan]) -> list[str]:
    return [span.name for span in sorted(spans, key=lambda span: span.start_time)]


def test_a_mail_that_was_reserved_in_a_trace_leaves_its_whole_way_there(recorded, parts, database_url):
    sent = reserve_in_a_trace(database_url, "ann@example.org")
    refused = reserve_in_a_trace(database_url, "refused@example.org")
    reserve(database_url, 3)
    report = send_all(parts, lock=False)()
    assert (report.counts.sent, report.counts.failed) == (4, 1)

    spans = recorded.get_finished_spans()
    (lane,) = [span for span in spans if span.name == "mailbatch.send_due"]
    assert lane.attributes == {"mailbatch.run.id": str(report.run_id), "mailbatch.lane": 0}
    for trace_id, code in ((sent, 250), (refused, 550)):
        way = [span for span in spans if span.context.trace_id == trace_id and span.name != "order"]
        assert named(way) == WAY
        ours = [span for span in way if span.name != "mailbatch.reserve"]
        assert {link.context.trace_id for span in ours for link in span.links} == {lane.context.trace_id}
        (smtp,) = [span for span in way if span.name == "mailbatch.smtp"]
        assert smtp.attributes["smtp.reply_code"] == code
        assert smtp.status.is_ok is (code == 250)
    # Those without a trace leave spans of groups alone.
    in_lane = {span.name for span in spans if span.context.trace_id == lane.context.trace_id}
    assert not in_lane & {"mailbatch.compose", "mailbatch.smtp"}
    assert "refused@" not in "".join(span.to_json() for span in spans)


def test_a_mail_that_cannot_be_composed_shows_so_and_not_what_it_holds(recorded, parts, database_url):
    trace_id = reserve_in_a_trace(database_url, "ann@example.org", text="secret {{ 1 / 0 }}")
    send_all(parts, lock=False)()
    assert states(database_url) == {"failed": 1}
    way = [span for span in recorded.get_finished_spans() if span.context.trace_id == trace_id]
    assert named(way)[1:] == ["mailbatch.reserve", "mailbatch.claim", "mailbatch.compose", "mailbatch.settle"]
    assert "secret" not in "".join(span.to_json() for span in way)


def test_the_trace_is_stored_with_the_reservation_and_only_where_there_is_one(recorded, database_url):
    with database(database_url) as connection:
        client.reserve(connection, to="ann@example.org", subject="s", text="t")
        assert connection.scalar(sa.select(sa.func.count()).select_from(mail_traces)) == 0
    trace_id = reserve_in_a_trace(database_url, "ann@example.org")
    with database(database_url) as connection:
        (row,) = connection.execute(sa.select(mail_traces)).all()
    assert row.traceparent.split("-")[1] == f"{trace_id:032x}"
    with pytest.raises(InvalidReservation):
        reserve_in_a_trace(database_url, "kanarie@@example.org")
    (span,) = [span for span in recorded.get_finished_spans() if span.name == "mailbatch.reserve"][1:]
    assert "kanarie" not in span.to_json()


def test_what_is_reserved_over_http_stays_in_the_trace_of_its_request(recorded, parts, sqlite_url):
    mail = {"recipients": "ann@example.org", "subject": "s", "body_text": "t"}
    trace_id, nobody = "0af7651916cd43dd8448eb211c80319c", "00000000-0000-0000-0000-000000000000"
    with Api({"database_url": sqlite_url, "redis_url": "redis://127.0.0.1:1"}) as api:
        for context in (f"00-{trace_id}-b7ad6b7169203331-00", "junk", nobody):
            api.post("/api/reservations", mail, 201, traceparent=context)
        sampled = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "tracestate": "shop=1"}
        known = mail | {"idempotency_key": "k"}
        one = api.post("/api/reservations", known, 201, **sampled)
        api.post("/api/reservations", [known, mail, {"recipients": "nobody"}], 200, **sampled)
    with database(sqlite_url) as connection:
        rows = connection.execute(sa.select(mail_traces)).all()
    assert len(rows) == 2
    assert {row.traceparent.split("-")[1] for row in rows} == {trace_id}
    assert {row.tracestate for row in rows} == {"shop=1"}
    assert one["id"] in {str(row.reservation_id) for row in rows}
    spans = [span for span in recorded.get_finished_spans() if span.name == "mailbatch.reserve"]
    assert {f"{span.parent.span_id:016x}" for span in spans} == {"b7ad6b7169203331"}


class Collector(BaseHTTPRequestHandler):
    """Receives spans by OTLP over HTTP."""

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_the_variables_of_opentelemetry_are_all_that_it_takes_to_export(sqlite_url, tmp_path):
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server,
        Stack(sqlite_url, "redis://127.0.0.1:1", "smtp://127.0.0.1:1", tmp_path / "stack") as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        server.asked = []
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = stack.run("mailbatch", "send-all", "--here", "--no-lock")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert {path for path, _ in server.asked} == {"/v1/traces"}
    assert any(b"mailbatch.send_due" in body for _, body in server.asked)


def test_who_does_not_trace_pays_nothing(sqlite_url, monkeypatch):
    monkeypatch.setenv("MAILBATCH_DATABASE_URL", sqlite_url)
    program = (
        "import sys, mailbatch.client; from mailbatch.bootstrap import Parts, read_settings;"
        "from mailbatch.application.sending.send_due import SendDue;"
        "assert type(Parts(read_settings()).sending.send_due) is SendDue;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_who_asks_for_traces_without_the_extra_is_told_in_a_line(monkeypatch, caplog, parts):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(enabling, "find_spec", lambda _name: None)
    enabling._installed.cache_clear()
    assert [type(parts.sending.send_due), type(parts.sending.send_due)] == [SendDue, SendDue]
    enabling._installed.cache_clear()
    (line,) = caplog.messages
    assert line.endswith("pip install 'mailbatch[otel]'")
