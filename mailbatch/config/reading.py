"""Reads the settings from the environment, and names variables that look like settings and are none."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mailbatch.config.settings import PREFIX, Settings
from mailbatch.config.showing import masked
from mailbatch.domain.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

# What Kubernetes sets for a Service that is called mailbatch.
_OF_KUBERNETES = re.compile(rf"{PREFIX}(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_\w+)?)")
_NEAR = 0.62
"""How similar a name is to a setting's if it is most likely a slip."""


def load(readers: Mapping[str, Callable[[str], object]] | None = None) -> Settings:
    """Read the settings from the environment.

    ``readers``: by the name of a setting, the function by which an adapter reads its text; it raises ``ValueError``
    with what is wrong.

    Raises:
        SettingsError: with one line for each setting that is wrong, in the order of the settings.
    """
    wrong = dict(_unreadable(readers or {}))
    try:
        settings = Settings(**_empty_but_set())
    except ValidationError as error:
        wrong |= {_name(e): _line(e) for e in error.errors()}
    if wrong:
        # `from None`: the original carries the values, and with them the secrets.
        raise SettingsError("\n".join(wrong[name] for name in (*Settings.model_fields, "") if name in wrong)) from None
    return settings


def _unreadable(readers: Mapping[str, Callable[[str], object]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the line of each setting that its reader refuses."""
    given = _given()
    for name, read in readers.items():
        if not (value := given.get(name)):
            continue
        try:
            read(value)
        except ValueError as error:
            yield name, _shown(name, value, str(error))


def _given() -> dict[str, str]:
    """Return the variables that are set, by the names of their settings."""
    upper = {variable.upper(): value for variable, value in os.environ.items()}
    return {
        variable.removeprefix(PREFIX).lower(): value for variable, value in upper.items() if variable.startswith(PREFIX)
    }


def _empty_but_set() -> dict[str, Any]:
    """Return the settings for which an empty variable does not mean "not set".

    An empty NAMESPACE most likely comes from a source that is empty: the default would be another installation's.
    """
    return {"namespace": ""} if _given().get("namespace") == "" else {}


def _name(error: ErrorDetails) -> str:
    return str(error["loc"][0]) if error["loc"] else ""


def _line(error: ErrorDetails) -> str:
    """Return the line for a value that is not allowed. It says what it must be."""
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    name = _name(error)
    return _shown(name, error["input"], message) if name else message


def _shown(name: str, value: Any, message: str) -> str:
    return f"{PREFIX}{name.upper()}={masked(name, value)}: {message}"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for each variable that looks like a setting and is none, with the nearest that is one."""
    known = [name.upper() for name in Settings.model_fields]
    found = []
    for variable in sorted(environ):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known or _OF_KUBERNETES.fullmatch(variable.upper()):
            continue
        if near := _nearest(name, known):
            found.append(f"{variable} is no setting; did you mean {' or '.join(PREFIX + one for one in near)}?")
    return found


def _nearest(name: str, known: list[str]) -> list[str]:
    """Return the setting whose name is nearest to ``name``, or both if two are as near; nothing if none is near."""
    import difflib

    def likeness(setting: str) -> float:
        return difflib.SequenceMatcher(None, setting, name).ratio()

    near = difflib.get_close_matches(name, known, n=2, cutoff=_NEAR)
    return [one for one in near if likeness(one) == likeness(near[0])]
