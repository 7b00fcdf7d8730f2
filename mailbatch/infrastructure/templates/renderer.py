"""Renders the parts of a mail from its own inline sources and from the files of the template that it names."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2.runtime import Context

from mailbatch.domain.errors import CannotCompose, ResourceAway
from mailbatch.domain.letter import Rendered
from mailbatch.domain.locale import locale_problem
from mailbatch.infrastructure.templates.budget import Budget, OverBudget
from mailbatch.infrastructure.templates.failures import describe
from mailbatch.infrastructure.templates.language import write_in
from mailbatch.infrastructure.templates.loader import is_template_name
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.sources import Sources, has_tag, missing_parts
from mailbatch.infrastructure.templates.template_files import FILES, TemplateFiles, language_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jinja2 import Template

    from mailbatch.domain.reservation import Mail

_PIECES = 64
"""Pieces of output that are counted together; the sandbox has already counted the long ones among them."""
_UTF8 = 4
"""The most bytes of a character."""


class TemplateRenderer:
    """Renders mails (the port ``Renderer``).

    Subject and bodies of a mail are Jinja2 sources. Those that it leaves out come from the template that it names, as
    ``<directory>/<name>/subject.txt, body.txt, body.html``, or from a folder of the mail's language in it. HTML is
    escaped, text and subject are not. Named templates may include and import others under ``directory``, as
    ``name/file``; inline sources may not. No part may have more than ``max_output_bytes`` bytes in UTF-8. A file that
    changes is seen ``look_again`` seconds later at the latest.
    """

    def __init__(
        self, directory: Path | None, max_output_bytes: int, look_again: float = 0.0, options: Options | None = None
    ) -> None:
        self.directory = directory
        self._options = options or Options()
        self._max_bytes = max_output_bytes
        self._sources = Sources(directory, look_again, self._options)

    def __call__(self, mail: Mail) -> Rendered:
        """Return the parts of ``mail``.

        Raises:
            CannotCompose: with a line for each part that fails, naming the part and the line in it.
            ResourceAway: the mail has a template, and the folder of templates cannot be opened, or is empty.
        """
        faults: list[str] = []
        found = self._files_of(mail, faults)
        write_in(found.locale, mail.context or {})
        files = found.files
        parts = {field: self._part(field, mail, files.get(field), faults) for field in FILES}
        _drop_empty_body(mail, parts)
        if parts["body_text"] is None and parts["body_html"] and self._makes_text(found):
            self._make_text(parts, faults)
        faults += () if faults else missing_parts(mail, parts, self.directory)
        if faults:
            self._ensure_folder(mail)
            raise CannotCompose(faults)
        # A body of the mail itself shows what the mail attaches, not what a template has.
        images = self._sources.images_in(parts["body_html"]) if "body_html" in files and not mail.body_html else ()
        return Rendered(subject=parts["subject"] or "", text=parts["body_text"], html=parts["body_html"], images=images)

    def _ensure_folder(self, mail: Mail) -> None:
        """Raise ``ResourceAway`` if a mail that fails may do so only because the folder of templates is away."""
        if why := self._away_for(mail):
            raise ResourceAway([f"templates: {why}"])

    def _away_for(self, mail: Mail) -> str | None:
        """Return why the folder cannot serve ``mail`` now. A name that no template can have needs no folder."""
        return self._sources.away() if mail.template and is_template_name(mail.template) else None

    def _files_of(self, mail: Mail, faults: list[str]) -> TemplateFiles:
        tag = mail.locale or self._options.locale
        if mail.locale and (problem := locale_problem(mail.locale)):
            faults.append(problem)
        elif mail.template:
            return self._sources.files_of(mail.template, tag, faults)
        return TemplateFiles({}, tag)

    def _makes_text(self, found: TemplateFiles) -> bool:
        return self._options.html_to_text if found.html_to_text is None else found.html_to_text

    def _make_text(self, parts: dict[str, str | None], faults: list[str]) -> None:
        from mailbatch.infrastructure.templates.html_to_text import text_of

        try:
            parts["body_text"] = text_of(parts["body_html"] or "") or None
        except ValueError as error:
            faults.append(f"body_html: {error}")

    def _part(self, field: str, mail: Mail, file: str | None, faults: list[str]) -> str | None:
        source = getattr(mail, field)
        if source == "" and file is not None:
            source = None  # an empty text counts as none: the template's goes before it
        try:
            if source is not None:
                return self._from_source(field, source, mail.context or {})
            return self._from_file(field, file, mail.context or {}) if file is not None else None
        except Exception as error:  # noqa: BLE001 - a template can raise whatever Python can; it is this mail's fault
            where = field if source is not None else f"template {file}"
            faults.append(describe(error, where, file or field, self.directory))
            return None

    def _from_source(self, field: str, source: str, context: Mapping[str, Any]) -> str:
        if not has_tag(source):
            return source
        with Budget(self._max_bytes) as budget:
            return self._run(self._sources.inline(field, source), context, budget)

    def _from_file(self, field: str, file: str, context: Mapping[str, Any]) -> str:
        with Budget(self._max_bytes) as budget:
            text = self._run(self._sources.named(field, file), context, budget)
        # A file ends with a line end; a subject does not.
        return text.strip() if field == "subject" else text

    def _run(self, template: Template, context: Mapping[str, Any], budget: Budget) -> str:
        environment, most = template.environment, self._max_bytes
        # As ``Template.new_context`` makes it, which copies the globals twice more.
        values = Context(environment, {**environment.globals, **context}, template.name, template.blocks)
        pieces, size = list[str](), 0
        try:
            stream = iter(template.root_render_func(values))
            while some := list(islice(stream, _PIECES)):
                budget.step(len(some))
                size += sum(map(len, some))
                _check_size(size, most)
                pieces += some
        except Exception:  # noqa: BLE001 - whatever it was, Jinja2 puts the template's lines in its traceback
            environment.handle_exception()
        text = "".join(pieces)
        if size > most // _UTF8 and not text.isascii():
            _check_size(len(text.encode("utf-8", "surrogatepass")), most)
        return text

    def served_in(self, mail: Mail) -> tuple[str, ...]:
        """Return the languages of the template's files from which ``mail`` is made, each once. Runs no template.

        A mail that names no language, of a template that has none, is in no language.
        """
        found = self._files_of(mail, []).files if mail.template else {}
        files = [file for field, file in found.items() if not getattr(mail, field)]
        if not mail.locale:
            files = [file for file in files if file.count("/") > 1]
        return tuple(dict.fromkeys(language_of(file, self._options) for file in files))

    def problems(self, mail: Mail) -> list[str]:
        """Return a line for each thing that fails whatever the context of ``mail`` holds.

        These are a missing template, and a source that cannot be compiled. Without a template directory, or while it is
        away, a named template is not looked at.
        """
        faults: list[str] = []
        unknown = mail.template and self.directory is None and is_template_name(mail.template)
        files = {} if unknown else self._files_of(mail, faults).files
        parts = {field: getattr(mail, field) or files.get(field) or getattr(mail, field) for field in FILES}
        for field, part in parts.items():
            if fault := self._compile_error(field, part, files.get(field)):
                faults.append(fault)
        if not faults and mail.template and not unknown:
            faults += missing_parts(mail, parts, self.directory)
        return [] if faults and self._away_for(mail) else faults

    def missing_images(self, mail: Mail) -> dict[str, str]:
        """Return each image that the template of ``mail`` shows and does not have, with a line that says so.

        The mail may attach it. Returns nothing for a template that ``problems`` refuses.
        """
        file = None if mail.body_html or not self.directory or not mail.template else self._html_file(mail)
        if file is not None:
            with suppress(Exception), Budget(self._max_bytes):
                return self._sources.check_named("body_html", file)
        return {}

    def _html_file(self, mail: Mail) -> str | None:
        return self._files_of(mail, []).files.get("body_html")

    def _compile_error(self, field: str, part: str | None, file: str | None) -> str | None:
        """Return why ``part``, a source or the name of ``file``, cannot be compiled."""
        if part is None:
            return None
        try:
            with Budget(self._max_bytes):
                if part == file:
                    self._sources.check_named(field, part)
                elif has_tag(part):
                    self._sources.check_inline(field, part)
        except Exception as error:  # noqa: BLE001 - as for a part that is rendered
            where = f"template {file}" if part == file else field
            return describe(error, where, file or field, self.directory)
        return None


def _drop_empty_body(mail: Mail, parts: dict[str, str | None]) -> None:
    """Drop an empty body if the other one is there. Alone it is the mail's body, which is then empty."""
    for field, other in (("body_html", "body_text"), ("body_text", "body_html")):
        if getattr(mail, field) == parts[field] == "" and parts[other] is not None:
            parts[field] = None


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise OverBudget(f"makes more than {most} bytes")
