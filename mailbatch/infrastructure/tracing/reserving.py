"""The span in which a mail is reserved, inside of whatever its caller traces."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def reserving() -> Iterator[Mapping[str, str] | None]:
    """Open the span ``mailbatch.reserve``; yield its context as W3C headers, None where nothing is recorded.

    A caller who traces has imported OpenTelemetry already: else this costs one look at the modules.
    """
    if "opentelemetry.trace" not in sys.modules:
        yield None
        return
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not trace.get_current_span().is_recording():
        yield None
        return
    tracer = trace.get_tracer("mailbatch")
    # What is raised may quote an address.
    with tracer.start_as_current_span(
        "mailbatch.reserve",
        kind=trace.SpanKind.PRODUCER,
        record_exception=False,
        set_status_on_exception=False,
    ):
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        yield headers
