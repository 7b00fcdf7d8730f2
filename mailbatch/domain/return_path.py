"""The envelope sender of all mails: the address to which a mail server returns what it cannot deliver.

With the id of the reservation in it, a bounce says which mail it concerns, whatever its text says (variable envelope
return path, VERP). A signature of the id shows that a bounce is not invented.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from dataclasses import dataclass, field
from uuid import UUID

_PLACEHOLDERS = re.compile(r"\{(id|sig)\}")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_PATTERNS = {
    "id": r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    "sig": r"(?P<sig>[a-z2-7]{16})",
}
_SIGNATURE_BYTES = 10
"""80 bits, which are 16 letters of base32."""


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """An address with ``{id}`` for the id of the reservation, and ``{sig}`` for its signature under ``secret``.

    ``<>`` stands for no address: nothing is returned (RFC 5321 §4.5.5).

    Raises:
        ValueError: the text has other braces, ``{sig}`` without ``{id}``, or ``{sig}`` without a secret.
    """

    text: str
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if wrong := return_path_problem(self.text):
            raise ValueError(wrong)
        if "{sig}" in self.text and not self.secret:
            raise ValueError("{sig} needs a secret")

    def address(self, reservation_id: UUID) -> str:
        """Return the envelope sender of a mail, without angle brackets; an empty text for ``<>``."""
        if self.text == "<>":
            return ""
        filled = self.text.replace("{id}", str(reservation_id))
        return filled.replace("{sig}", self._signature(str(reservation_id))) if "{sig}" in filled else filled

    def reservation_id(self, address: str) -> UUID | None:
        """Return the reservation whose mail had ``address`` as its envelope sender; None if no mail had it.

        Upper and lower case count as equal, because some servers change it.
        """
        found = self._pattern().fullmatch(address.strip().strip("<>").lower())
        parts = found.groupdict() if found else {}
        if "id" not in parts or not hmac.compare_digest(parts.get("sig", ""), self._expected(parts)):
            return None
        return UUID(parts["id"])

    def _expected(self, parts: dict[str, str]) -> str:
        return self._signature(parts["id"]) if "sig" in parts else ""

    def _signature(self, reservation_id: str) -> str:
        digest = hmac.digest((self.secret or "").encode(), reservation_id.encode(), "sha256")
        return b32encode(digest[:_SIGNATURE_BYTES]).decode().lower()

    def _pattern(self) -> re.Pattern[str]:
        pieces = _PLACEHOLDERS.split(self.text.lower())
        return re.compile("".join(_PATTERNS[p] if n % 2 else re.escape(p) for n, p in enumerate(pieces)))


def return_path_problem(text: str) -> str | None:
    """Return what is wrong with the placeholders of ``text``, or None."""
    found = _BRACES.findall(text)
    if any(one not in {"{id}", "{sig}"} for one in found) or len(found) != len(set(found)):
        return "may have {id} and {sig}, each once, and no other braces"
    if "{sig}" in found and "{id}" not in found:
        return "has {sig}, which signs the id, and no {id}"
    return None
