"""The names of mailbatch's own keys in Redis. Celery's begin with the same prefix (``celeryconfig.py``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation. Each begins with its ``namespace``, the setting NAMESPACE."""

    namespace: str = "mailbatch"

    def lock(self, job: str) -> str:
        """The lock of ``job``: a string with its holder."""
        return f"{self.namespace}:job:lock:{job}"

    def status(self, job: str) -> str:
        """The progress of ``job``: a JSON object."""
        return f"{self.namespace}:job:status:{job}"

    def connections(self, relay: str) -> str:
        """The connections to ``relay`` that are open now: a sorted set."""
        return f"{self.namespace}:relay:connections:{relay}"

    def habits(self, relay: str) -> str:
        """What was learned of how ``relay`` is to be spoken to: a JSON object."""
        return f"{self.namespace}:relay:habits:{relay}"
