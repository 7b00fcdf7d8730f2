"""Names mailbatch's own keys in Redis. Celery's keys begin with the same prefix (``celeryconfig.py``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation. Each begins with ``namespace``, the setting NAMESPACE."""

    namespace: str = "mailbatch"

    def lock(self, job: str) -> str:
        """Return the key of the lock of ``job``: a string that names its holder."""
        return f"{self.namespace}:job:lock:{job}"

    def status(self, job: str) -> str:
        """Return the key of the progress of ``job``: a JSON object."""
        return f"{self.namespace}:job:status:{job}"

    def connections(self, relay: str) -> str:
        """Return the key of the open connections to ``relay``: a sorted set."""
        return f"{self.namespace}:relay:connections:{relay}"

    def relay_profile(self, relay: str) -> str:
        """Return the key of what was learned about the SMTP of ``relay``: a JSON object."""
        return f"{self.namespace}:relay:habits:{relay}"

    def rate(self, limit: str) -> str:
        """Return the key of what was granted under ``limit``: a hash."""
        return f"{self.namespace}:rate:{limit}"
