"""Whether this process traces. Looks at its environment and its modules, and imports nothing."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib.util import find_spec

log = logging.getLogger(__name__)

_ASKING = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")


def enabled() -> bool:
    """Whether OpenTelemetry's own variables ask for traces, or somebody has set them up in this process."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace

        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return True
    asked = next((name for name in _ASKING if os.environ.get(name)), None)
    return asked is not None and _installed(asked)


@cache
def _installed(asked: str) -> bool:
    needed = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")
    missing = any(find_spec(name) is None for name in needed)
    if missing:
        log.warning("%s is set, but to trace this needs: pip install 'mailbatch[otel]'", asked)
    return not missing
