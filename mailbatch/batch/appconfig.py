"""Reads the settings of the Celery app: our ``celeryconfig.py``, overridden by the one in the working directory."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from celery.utils.functional import maybe_list
from celery.utils.imports import cwd_in_path

from mailbatch import config
from mailbatch.domain.errors import SettingsError
from mailbatch.domain.job_name import OURS, SEND_LANE
from mailbatch.domain.redaction.urls import mask_url
from mailbatch.infrastructure.redis.urls import read_redis_url

FILE = "celeryconfig.py"
_MERGED_MAPPINGS = ("beat_schedule", "task_routes", "broker_transport_options", "result_backend_transport_options")
QUEUE = "mailbatch"
"""The queue of our tasks, if there is one of that name."""
_TASKS = (*OURS, SEND_LANE)
_JOINED_LISTS = ("imports", "include")
_PREFIXED = ("broker_transport_options", "result_backend_transport_options")


def load(directory: Path | None = None) -> dict[str, Any]:
    """Return Celery's settings: ours, overridden by those of ``celeryconfig.py`` in ``directory`` (the working one).

    A name in that file replaces ours, but ``beat_schedule`` and other mappings are merged entry by entry, and
    ``imports`` are added to ours.

    Raises:
        SettingsError: in one line that says what and where: a setting is wrong, the file in ``directory`` is broken,
            or NAMESPACE is set and the file names another prefix for Celery's keys.
    """
    ours = _defaults()
    settings = _names_in(ours)
    theirs = (directory or Path.cwd()) / FILE
    if theirs.is_file() and not theirs.samefile(ours):
        for name, value in _names_in(theirs).items():
            settings[name] = _merged(theirs, name, settings.get(name), value)
        _ensure_queues(theirs, settings)
        if (other := other_prefix(settings)) and "namespace" in config.load().model_fields_set:
            raise SettingsError(f"{theirs}: {other}")
    settings["beat_schedule"] = {name: _as_tick(entry) for name, entry in settings["beat_schedule"].items()}
    return settings


def _as_tick(entry: Any) -> Any:
    """Return ``entry`` with the trigger of a tick: without one, its run would count as manual and ignore a pause."""
    if not isinstance(entry, Mapping) or entry.get("task") not in OURS:
        return entry
    kwargs = entry.get("kwargs") or {}
    return {**entry, "kwargs": {"trigger": "beat", **kwargs}} if isinstance(kwargs, Mapping) else entry


def _ensure_queues(path: Path, settings: dict[str, Any]) -> None:
    """Route our tasks into their queue, or into the default queue; raise if neither exists."""
    declared, default = settings.get("task_queues"), settings["task_default_queue"]
    if not isinstance(default, str) or not default:
        raise SettingsError(f"{path}: task_default_queue must be the name of a queue, not {default!r}")
    if declared is None:
        return
    if isinstance(declared, str) or not isinstance(declared, Iterable):
        raise SettingsError(f"{path}: task_queues must be a list of queues, not {type(declared).__name__}")
    names = [queue if isinstance(queue, str) else getattr(queue, "name", None) for queue in declared]
    if QUEUE in names and default != QUEUE:
        ours = {task: {"queue": QUEUE} for task in _TASKS}
        routes = settings.get("task_routes") or {}
        settings["task_routes"] = {**ours, **routes} if isinstance(routes, Mapping) else [*maybe_list(routes), ours]
    elif default not in names:
        raise SettingsError(f"{path}: task_queues lacks {default!r}, the task_default_queue, into which calls go")


def other_prefix(settings: Mapping[str, Any]) -> str | None:
    """Return in one line how the prefix of Celery's keys differs from NAMESPACE; None if it does not.

    An installation that had a prefix before the setting NAMESPACE existed keeps it while NAMESPACE is not set.
    """
    namespace = config.load().namespace
    for name in _PREFIXED:
        prefix = (settings.get(name) or {}).get("global_keyprefix")
        if prefix != f"{namespace}:":
            return (
                f"{name} has the global_keyprefix {prefix!r}, but with {config.PREFIX}NAMESPACE={namespace} "
                f"every key in Redis begins with {f'{namespace}:'!r}; remove it and set {config.PREFIX}NAMESPACE"
            )
    return None


def redis_url(url: str) -> str:
    """Return ``url`` as Celery spells it.

    Raises:
        SettingsError: for an option that Celery, whose broker this may be, does not know.
    """
    try:
        return read_redis_url(url).for_celery()
    except ValueError as error:
        raise SettingsError(f"{mask_url(url)}: {error}") from error


def _defaults() -> Path:
    """Return the path of our own file: inside the package in a wheel, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / FILE
    return inside if inside.is_file() else package.parent / FILE


def _names_in(path: Path) -> dict[str, Any]:
    """Run the file at ``path``, which cannot be imported as a module, and return the names that it defines."""
    names: dict[str, Any] = {"__file__": str(path), "__name__": "celeryconfig"}
    try:
        # In a worker the working directory is not on Python's path, but its celeryconfig.py may import its neighbours.
        with cwd_in_path():
            exec(compile(path.read_bytes(), str(path), "exec"), names)  # noqa: S102 - it is the user's own program
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType | types.FunctionType | type)
    }


def _merged(path: Path, name: str, ours: Any, theirs: Any) -> Any:
    if ours is not None and name in _MERGED_MAPPINGS:
        if not isinstance(theirs, Mapping):
            raise SettingsError(f"{path}: {name} must be a mapping, not {type(theirs).__name__}")
        return {**ours, **theirs}
    if ours is not None and name in _JOINED_LISTS:
        return (*ours, *([theirs] if isinstance(theirs, str) else theirs))
    return theirs
