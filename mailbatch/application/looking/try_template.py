"""Send one mail of a template to an operator, filled with the template's sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mailbatch.domain.errors import InvalidReservation
from mailbatch.domain.reservation import Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailbatch.application.looking.preview import Tried, TrySending
    from mailbatch.application.ports.sending import Renderer
    from mailbatch.application.ports.system import AddressReader
    from mailbatch.domain.letter import Rendered

TEST = "[Test] "
"""Begins the subject."""


@dataclass(frozen=True, slots=True)
class MarkedAsTest:
    """Renders mails as ``render`` does, with subjects that say that they are tests."""

    render: Renderer

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts. Raises as ``render``."""
        rendered = self.render(mail)
        return replace(rendered, subject=f"{TEST}{rendered.subject}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TryTemplate:
    """Send one mail of a template at once to the relay. It is not stored, and not tried again.

    ``sample`` returns the context in the template's ``sample.json`` for a language, or None; it raises ``ValueError``.
    ``send`` renders by ``MarkedAsTest``.
    """

    sample: Callable[[str, str], Mapping[str, Any] | None]
    read_addresses: AddressReader
    send: TrySending

    def __call__(self, name: str, locale: str, to: str) -> Tried:
        """Return what the relay replied to the template ``name`` in ``locale``, sent to the address ``to``.

        Raises:
            InvalidReservation: ``to`` is not one address, or the template has no sample that can be read.
            CannotCompose: the template cannot be rendered.
        """
        context = self._context(name, locale)
        return self.send(Mail(recipients=self._one_address(to), template=name, locale=locale, context=context))

    def _context(self, name: str, locale: str) -> Mapping[str, Any]:
        try:
            context = self.sample(name, locale)
        except ValueError as error:
            raise InvalidReservation([str(error)]) from error
        if context is None:
            raise InvalidReservation([f"{name} has no sample.json; add one with a value for each variable"])
        return context

    def _one_address(self, to: str) -> str:
        try:
            addresses = self.read_addresses(to)
        except ValueError as error:
            raise InvalidReservation([f"to: {error}"]) from error
        if len(addresses) != 1:
            raise InvalidReservation([f"to: has {len(addresses)} addresses; give one"])
        return to
