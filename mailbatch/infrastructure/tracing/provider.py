"""Where spans go: to the provider that the process has, or else to the one that OpenTelemetry's variables describe."""

from __future__ import annotations

import os

from opentelemetry import trace

NAME = "mailbatch"
PATIENCE = 3.0
"""Seconds for which the collector may take, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise."""


def tracer() -> trace.Tracer:
    """The tracer of this process. One that nobody has set up yet exports by OTLP over HTTP, in the background."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        service = os.environ.get("OTEL_SERVICE_NAME", NAME)
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        # A command waits at its end until its last spans are out, or a collector that is away has had its chance.
        patience = None if os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") else PATIENCE
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=patience)))
        trace.set_tracer_provider(provider)
    return trace.get_tracer(NAME)
