"""Records a span for the reservation of mails, in the trace of the caller."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailbatch.infrastructure.tracing.enabled import enabled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer


@contextmanager
def reserving() -> Iterator[Mapping[str, str] | None]:
    """Record the span ``mailbatch.reserve``. Yield its context as W3C headers, or None if the caller records nothing.

    A caller that traces has imported OpenTelemetry already. Without it this costs one look at the loaded modules.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield None
        return
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        yield None
        return
    with _span(trace.get_tracer("mailbatch"), None) as headers:
        yield headers


@contextmanager
def reserving_for(request_headers: Mapping[str, str]) -> Iterator[Mapping[str, str] | None]:
    """Record the same span in the trace that the headers of a request name.

    Yield None if that trace is not sampled, or if this process does not trace.
    """
    if "traceparent" not in request_headers or not enabled():
        yield None
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from mailbatch.infrastructure.tracing.provider import tracer

    carrier = {name: request_headers[name] for name in ("traceparent", "tracestate") if name in request_headers}
    origin = TraceContextTextMapPropagator().extract(carrier)
    if not trace.get_current_span(origin).get_span_context().trace_flags.sampled:
        yield None
        return
    with _span(tracer(), origin) as headers:
        yield headers


@contextmanager
def _span(tracer: Tracer, origin: Context | None) -> Iterator[Mapping[str, str]]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # An exception may quote an address, so none is recorded.
    with tracer.start_as_current_span(
        "mailbatch.reserve",
        context=origin,
        kind=SpanKind.PRODUCER,
        record_exception=False,
        set_status_on_exception=False,
    ):
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        yield headers
