"""Says whether this process traces. It reads environment and loaded modules, and imports nothing."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib.util import find_spec

log = logging.getLogger(__name__)

_ENABLING = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")


def enabled() -> bool:
    """Return whether OpenTelemetry's variables ask for traces, or this process has a provider for them."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace

        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return True
    variable = next((name for name in _ENABLING if os.environ.get(name)), None)
    return variable is not None and _installed(variable)


@cache
def _installed(variable: str) -> bool:
    needed = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")
    missing = any(find_spec(name) is None for name in needed)
    if missing:
        log.warning("%s is set, but to trace this needs: pip install 'mailbatch[otel]'", variable)
    return not missing
