"""The span in which mails are reserved, inside of whatever its caller traces."""

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
    """Open the span ``mailbatch.reserve``; yield its context as W3C headers, None where nothing is recorded.

    A caller who traces has imported OpenTelemetry already: else this costs one look at the modules.
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
def reserving_for(asked: Mapping[str, str]) -> Iterator[Mapping[str, str] | None]:
    """The same in the trace that the headers of a request name, if it is recorded there, and this process traces."""
    if "traceparent" not in asked or not enabled():
        yield None
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from mailbatch.infrastructure.tracing.provider import tracer

    carrier = {name: asked[name] for name in ("traceparent", "tracestate") if name in asked}
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

    # What is raised may quote an address.
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
