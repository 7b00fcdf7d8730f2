"""Decides where spans go: to the provider of this process, or to the one that OpenTelemetry's variables describe."""

from __future__ import annotations

import os

from opentelemetry import trace

NAME = "mailbatch"
PATIENCE = 3.0
"""Seconds that the collector may take, unless OTEL_EXPORTER_OTLP_TIMEOUT is set."""


def tracer() -> trace.Tracer:
    """Return the tracer of this process. If it has no provider, set one up: OTLP over HTTP, in the background."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = os.environ.get("OTEL_SERVICE_NAME", NAME)
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        # A command waits at its end until its last spans are out, or until this many seconds are over.
        patience = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else PATIENCE
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=patience)))
        trace.set_tracer_provider(provider)
    return trace.get_tracer(NAME)
