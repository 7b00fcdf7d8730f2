"""The local inbox as static pages: an index, and a page for each mail. No script of a mail runs there."""

from __future__ import annotations

import base64
import email
import email.policy
import html
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mailbatch.domain.seen_message import Image
from mailbatch.interfaces.framed import with_images, without_hints
from mailbatch.interfaces.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from email.message import EmailMessage

PAGES = "pages"
INDEX = "index.html"
_SHOWN = ("From", "To", "Cc", "Reply-To", "Date", "Subject", "Message-ID", "List-Unsubscribe")
_UNREADABLE = "(cannot be read)"
_LARGEST_LINK = 8 * 2**20
"""Bytes of a file that its page holds for saving."""
_IMAGE = re.compile(r"image/[a-z0-9.+-]{1,60}")

_FRAME = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta http-equiv="X-DNS-Prefetch-Control" content="off">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: start; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }}
th {{ white-space: nowrap; }}
table.index td:first-child, table.index td:last-child {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
pre {{ white-space: pre-wrap; unicode-bidi: plaintext; border: 1px solid var(--line); padding: 1rem; }}
iframe {{ width: 100%; height: 34rem; border: 1px solid var(--line); background: #fff; color-scheme: light; }}
</style>
{body}
</html>
"""


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail that the inbox has accepted. ``at`` in seconds since 1970, ``size`` in bytes."""

    n: int
    at: float
    file: str
    sender: str
    recipients: tuple[str, ...]
    message_id: str | None
    size: int


def write_index(folder: Path, mails: Sequence[StoredMail]) -> None:
    """Write ``index.html``: every mail, the last one first."""
    rows = "\n".join(_row(folder, mail) for mail in reversed(mails))
    body = (
        f"<h1>{len(mails):,} mails in the local inbox</h1>\n<p>Nothing of this has left this machine.</p>\n"
        f'<table class="index">\n<tr><th>#<th>To<th>Subject<th>Came at (UTC)</tr>\n{rows}\n</table>'
    )
    _write(folder / INDEX, "Local inbox", body)


def write_page(folder: Path, mail: StoredMail) -> None:
    """Write the page on which one mail can be read."""
    pages = folder / PAGES
    pages.mkdir(exist_ok=True)
    try:
        message = _read(folder, mail)
        body = _headers(message) + _files(message) + _bodies(message)
        title = str(message["Subject"] or "")
    except Exception as error:  # noqa: BLE001 - the parser breaks on odd mails in many ways; the file is there
        title, body = _UNREADABLE, f"<p>This mail cannot be shown: {_text(str(error))}</p>"
    recipients = _text(", ".join(mail.recipients))
    source = quote(f"../{mail.file}")
    top = (
        f'<p><a href="../{INDEX}">all mails</a> · <a href="{source}">source</a> ({mail.size:,} bytes)</p>\n'
        f'<h1><bdi dir="auto">{_text(title)}</bdi></h1>\n'
        f"<p>Envelope: from <code>{_text(mail.sender)}</code> to <code>{recipients}</code></p>\n"
    )
    _write(pages / _page_of(mail), title, top + body)


def _row(folder: Path, mail: StoredMail) -> str:
    try:
        with (folder / mail.file).open("rb") as file:
            subject = str(BytesHeaderParser(policy=email.policy.default).parse(file)["Subject"] or "")
    except Exception:  # noqa: BLE001 - as above
        subject = _UNREADABLE
    at = datetime.fromtimestamp(mail.at, UTC).strftime("%H:%M:%S")
    return (
        f"<tr><td>{mail.n}<td>{_text(', '.join(mail.recipients))}"
        f'<td><a href="{quote(f"{PAGES}/{_page_of(mail)}")}"><bdi dir="auto">{_text(subject) or "–"}</bdi></a>'
        f"<td>{at}</tr>"
    )


def _page_of(mail: StoredMail) -> str:
    return f"{Path(mail.file).stem}.html"


def _read(folder: Path, mail: StoredMail) -> EmailMessage:
    content = (folder / mail.file).read_bytes()
    return email.message_from_bytes(content, policy=email.policy.default)


def _headers(message: EmailMessage) -> str:
    rows = "".join(
        f'<tr><th>{name}<td dir="auto">{_text(str(value))}</tr>\n'
        for name in _SHOWN
        for value in message.get_all(name, [])
    )
    return f"<table>\n{rows}</table>\n"


def _files(message: EmailMessage) -> str:
    """Return a list of the files, each with a link that saves it: never one that a browser would open."""
    bodies = [message.get_body(("html",)), message.get_body(("plain",))]
    rows = "".join(_file(part) for part in _leaves(message) if part not in bodies)
    return f"<h2>Files</h2>\n<ul>\n{rows}</ul>\n" if rows else ""


def _file(part: EmailMessage) -> str:
    kind, content = part.get_content_type(), _content(part)
    shown = f'<bdi dir="auto">{_text(part.get_filename() or kind)}</bdi>'
    if len(content) <= _LARGEST_LINK:
        name = _text(part.get_filename() or "part")
        data = base64.b64encode(content).decode()
        shown = f'<a download="{name}" href="data:application/octet-stream;base64,{data}">{shown}</a>'
    return f"<li>{shown} {_text(kind)}, {len(content):,} bytes</li>\n"


def _images(message: EmailMessage) -> dict[str, Image]:
    """Return the images that the HTML shows, by content id."""
    parts = {str(part["Content-ID"] or "").strip().strip("<>"): part for part in _leaves(message)}
    return {
        own: Image(part.get_content_type(), _content(part))
        for own, part in parts.items()
        if own and _IMAGE.fullmatch(part.get_content_type())
    }


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts that are no multipart. A message inside is one part."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for one in part.iter_parts():
            yield from _leaves(one)  # type: ignore[arg-type]  # by this policy the parts are EmailMessages
    else:
        yield part


def _content(part: EmailMessage) -> bytes:
    if part.is_multipart():  # a message inside
        return b"".join(bytes(one) for one in part.get_payload())  # type: ignore[arg-type]
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _bodies(message: EmailMessage) -> str:
    shown = []
    if (page := message.get_body(("html",))) is not None:
        # An empty `sandbox` forbids scripts, forms and navigation.
        source = html.escape(with_images(without_hints(page.get_content()), _images(message)))
        shown.append(f'<h2>HTML</h2>\n<iframe sandbox srcdoc="{source}"></iframe>\n')
    if (text := message.get_body(("plain",))) is not None:
        shown.append(f"<h2>Text</h2>\n<pre>{_text(text.get_content())}</pre>\n")
    return "".join(shown)


def _text(text: str) -> str:
    return html.escape(visible(text))


def _write(path: Path, title: str, body: str) -> None:
    """Write a page in one step, so that a reader never sees half of it."""
    unfinished = path.with_name(f".{path.name}.part")
    page = _FRAME.format(title=_text(title), body=body)
    unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
    unfinished.replace(path)
