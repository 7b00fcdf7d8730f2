"""Run the templates of a mail: its own inline sources, and the named ones from the template directory."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import TemplateNotFound, TemplateSyntaxError

from mailbatch.application.compose import Rendered
from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.templates.budget import Budget, OverBudget, spending
from mailbatch.infrastructure.templates.folder import Folder, is_template_name
from mailbatch.infrastructure.templates.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jinja2 import Template

    from mailbatch.domain.reservation import Mail

FILES = {"subject": "subject.txt", "body_text": "body.txt", "body_html": "body.html"}
"""The files of a named template, by the field of the mail whose place they take."""

_TAG = re.compile(r"\{[{%#]")
_KEPT_SOURCES = 256
_LONGEST_KEPT = 32_768
_LONGEST_ERROR = 300
_PIECES = 64
"""Pieces of output whose steps are counted at once."""
_Failure: TypeAlias = tuple[str, int | None, str]


class Templates:
    """Renders mails (the port ``Renderer``).

    Subject and bodies of a mail are Jinja2 sources; those it leaves out come from the template that it names, as
    ``<directory>/<name>/subject.txt, body.txt, body.html``. HTML is escaped, text and subject are not. Named templates
    may include and import others under ``directory``, as ``name/file``; inline sources may not.
    No part may have more than ``max_output_bytes`` bytes in UTF-8. A file that changes is seen at the latest
    ``look_again`` seconds later.
    """

    def __init__(self, directory: Path | None, max_output_bytes: int, look_again: float = 0.0) -> None:
        self._directory = directory
        self._most = max_output_bytes
        self._folder = Folder(directory, look_again) if directory else None
        self._inline = {html: Sandbox(html=html) for html in (False, True)}
        self._named = {html: Sandbox(html=html, loader=self._folder) for html in (False, True)}
        self._remembered = lru_cache(maxsize=_KEPT_SOURCES)(self._compiled)

    def __call__(self, mail: Mail) -> Rendered:
        """Answer the parts of ``mail``.

        Raises:
            CannotCompose: with a line for each part that fails, naming the part and the line in it.
        """
        faults: list[str] = []
        if mail.template is not None and (missing := self._missing(mail.template)):
            faults.append(missing)
        parts = {field: self._part(field, mail, faults) for field in FILES}
        faults += () if faults else self._gaps(mail, parts)
        if faults:
            raise CannotCompose(faults)
        return Rendered(subject=parts["subject"] or "", text=parts["body_text"], html=parts["body_html"])

    def _part(self, field: str, mail: Mail, faults: list[str]) -> str | None:
        context = mail.context or {}
        where, source = field, getattr(mail, field)
        try:
            if source is not None:
                return self._from_source(field, source, context)
            if mail.template is None or not is_template_name(mail.template) or self._folder is None:
                return None
            where = f"{mail.template}/{FILES[field]}"
            return self._from_file(field, where, context) if self._folder.has(where) else None
        except Exception as error:  # noqa: BLE001 - a template can raise whatever Python can; it is this mail's fault
            faults.append(self._told(error, where if source is not None else f"template {where}", where))
            return None

    def _from_source(self, field: str, source: str, context: Mapping[str, Any]) -> str:
        if not _TAG.search(source):
            return source
        html = field == "body_html"
        with spending(Budget(self._most)) as budget:
            template = (self._remembered if len(source) <= _LONGEST_KEPT else self._compiled)(source, html)
            return self._run(template, context, budget)

    def _from_file(self, field: str, name: str, context: Mapping[str, Any]) -> str:
        with spending(Budget(self._most)) as budget:
            text = self._run(self._named[field == "body_html"].get_template(name), context, budget)
        # A file ends with a line end; a subject does not.
        return text.strip() if field == "subject" else text

    def _compiled(self, source: str, html: bool) -> Template:  # noqa: FBT001 - a key of the cache
        sandbox = self._inline[html]
        sandbox.refuse_if_vast(source, "inline")
        return sandbox.from_string(source)

    def _run(self, template: Template, context: Mapping[str, Any], budget: Budget) -> str:
        pieces, size, most = list[str](), 0, self._most
        for piece in template.generate(context):
            size += len(piece) if piece.isascii() else len(piece.encode("utf-8", "surrogatepass"))
            if size > most:
                raise OverBudget(f"makes more than {most} bytes")
            pieces.append(piece)
            if not len(pieces) % _PIECES:
                budget.step(_PIECES)
        return "".join(pieces)

    def _missing(self, name: str) -> str | None:
        shown = ascii(name)[1:-1][:80]
        if not is_template_name(name):
            return f"template {shown}: is no template name; letters, digits, '.', '_' and '-' are allowed"
        if self._folder is None:
            return f"template {shown}: there is no template directory; set MAILBATCH_TEMPLATE_DIR"
        if not any(self._folder.has(f"{name}/{file}") for file in FILES.values()):
            return f"template {shown}: not found in {self._directory} (a folder with {', '.join(FILES.values())})"
        return None

    def _gaps(self, mail: Mail, parts: Mapping[str, str | None]) -> list[str]:
        """Say which part came from nowhere."""
        into = f", or add it to {self._directory}/{mail.template} as " if mail.template else ""
        gaps = []
        if parts["subject"] is None:
            gaps.append(f"subject: is missing; give one{into and into + 'subject.txt'}")
        if parts["body_text"] is None and parts["body_html"] is None:
            gaps.append(f"body_text: is missing; give body_text or body_html{into and into + 'body.txt or body.html'}")
        return gaps

    def _told(self, error: Exception, part: str, file: str) -> str:
        """Tell in one line which part failed, in which of its lines, and why."""
        name, line, why = self._failure(error)
        if name and name != file and self._folder:
            part = f"template {name} (included by {part})"
        at = f" line {line}" if line else ""
        return f"{part}{at}: {' '.join(why.split())[:_LONGEST_ERROR]}"

    def _failure(self, error: Exception) -> _Failure:
        """Answer the template file (none for an inline source), the line in it and the reason."""
        match error:
            case TemplateSyntaxError():
                return error.name or "", error.lineno, error.message or "cannot be read"
            case TemplateNotFound():
                return *_place(error, self._directory), f"cannot include '{error}': it is not in the template directory"
            case TypeError() if "no loader" in str(error):
                return *_place(error, None), "an inline source cannot include, import or extend; use a named template"
            case UnicodeDecodeError():
                return "", None, f"is not UTF-8 (byte {error.start})"
        why = str(error) if type(error).__module__.startswith(("jinja2", "mailbatch")) else _classed(error)
        return *_place(error, self._directory), why


def _place(error: Exception, directory: Path | None) -> tuple[str, int | None]:
    """Answer the innermost template, and the line in it, through which ``error`` came."""
    name, line, trace = "", None, error.__traceback__
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file == "<template>":
            name, line = "", trace.tb_lineno
        elif directory and file.startswith(f"{directory}/"):
            name, line = file.removeprefix(f"{directory}/"), trace.tb_lineno
        trace = trace.tb_next
    return name, line


def _classed(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
