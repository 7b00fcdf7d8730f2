"""What the relays' file says, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailbatch.config.relay_tables import RelayTable
    from mailbatch.domain.routes import Route
    from mailbatch.domain.sending_hours import Window
    from mailbatch.domain.sending_limit import SendingLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaysFile:
    """Without ``relays`` that of SMTP_URL is the only one, and there are no ``routes``."""

    relays: Mapping[str, RelayTable] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    limits: tuple[SendingLimit, ...] = ()
    windows: tuple[Window, ...] = ()
