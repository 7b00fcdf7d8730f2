"""The composition root: puts the parts of a process together. It opens nothing before it is used."""

from __future__ import annotations

from mailbatch.bootstrap.process import Parts, process_parts
from mailbatch.bootstrap.settings import read_settings

__all__ = ["Parts", "process_parts", "read_settings"]
