"""Run the templates of a mail: its own inline sources, and the named ones from the template directory."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import TemplateNotFound, TemplateSyntaxError, nodes
from jinja2.runtime import Context

from mailbatch.application.sending.compose import Rendered
from mailbatch.domain.errors import CannotCompose
from mailbatch.infrastructure.templates.budget import Budget, OverBudget, spending
from mailbatch.infrastructure.templates.folder import LONGEST_NAME, Folder, is_template_name
from mailbatch.infrastructure.templates.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jinja2 import Template

    from mailbatch.domain.reservation import Mail

FILES = {"subject": "subject.txt", "body_text": "body.txt", "body_html": "body.html"}
"""The files of a named template, by the field of the mail whose place they take."""

_TAG = re.compile(r"\{[{%#]")
_PYTHONS_NULL = re.compile(r"'NoneType'|^'None'(?= has no )|\bNoneType\b")
_NEEDS = re.compile(r"\{%[-+]?\s*(?:extends|include|import|from)\b")
_KEPT_SOURCES = 256
_LONGEST_KEPT = 32_768
_LONGEST_ERROR = 300
_PIECES = 64
"""Pieces of output that are counted at once; the long ones among them the sandbox has counted already."""
_UTF8 = 4
"""Bytes of a character at most."""
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
        self.directory = directory
        self._most = max_output_bytes
        self._folder = Folder(directory, look_again) if directory else None
        self._inline = {html: Sandbox(html=html) for html in (False, True)}
        self._named = {html: Sandbox(html=html, loader=self._folder) for html in (False, True)}
        self._remembered = lru_cache(maxsize=_KEPT_SOURCES)(self._compiled)
        # What is true until the folder is looked at again: the files of each template, and what they compile to.
        self._files: dict[str, dict[str, str]] = {}
        self._loaded: dict[str, Template] = {}

    def __call__(self, mail: Mail) -> Rendered:
        """Answer the parts of ``mail``.

        Raises:
            CannotCompose: with a line for each part that fails, naming the part and the line in it.
        """
        faults: list[str] = []
        files = self._named_files(mail.template, faults) if mail.template else {}
        parts = {field: self._part(field, mail, files.get(field), faults) for field in FILES}
        _drop_the_empty_body(mail, parts)
        faults += () if faults else self._gaps(mail, parts)
        if faults:
            raise CannotCompose(faults)
        return Rendered(subject=parts["subject"] or "", text=parts["body_text"], html=parts["body_html"])

    def problems(self, mail: Mail) -> list[str]:
        """Return what fails whatever the context of ``mail`` holds, a line for each.

        That is a template that there is not, and a source that cannot be compiled. Without a template directory a named
        template is not looked at.
        """
        faults: list[str] = []
        unseen = mail.template and self._folder is None and is_template_name(mail.template)
        files = self._named_files(mail.template, faults) if mail.template and not unseen else {}
        parts = {field: self._source_of(field, mail, files.get(field)) for field in FILES}
        for field, part in parts.items():
            if fault := self._uncompilable(field, part, files.get(field)):
                faults.append(fault)
        if not faults and mail.template and not unseen:
            faults += self._gaps(mail, parts)
        return faults

    @staticmethod
    def _source_of(field: str, mail: Mail, file: str | None) -> str | None:
        """Return the mail's own source for ``field``, or the file that takes its place."""
        source: str | None = getattr(mail, field)
        return source or file or source

    def _uncompilable(self, field: str, part: str | None, file: str | None) -> str | None:
        """Say why ``part``, a source or the name of ``file``, cannot be compiled."""
        if part is None:
            return None
        try:
            with spending(Budget(self._most)):
                if part == file:
                    self._compile_file(field, part)
                elif _TAG.search(part):
                    self._compile_source(field, part)
        except Exception as error:  # noqa: BLE001 - as for a part that is rendered
            return self._told(error, f"template {file}" if part == file else field, file or field)
        return None

    def _compile_source(self, field: str, source: str) -> None:
        self._template_of(field, source)
        if _NEEDS.search(source) and any(_needed(self._inline[field == "body_html"].parse(source))):
            raise TypeError("no loader")

    def _compile_file(self, field: str, file: str) -> None:
        """Compile ``file`` and the others without which it is never rendered."""
        environment, seen, names = self._named[field == "body_html"], set[str](), [file]
        while names and self._folder is not None:
            name = names.pop()
            if name not in seen:
                seen.add(name)
                environment.get_template(name)
                source = self._folder.get_source(environment, name)[0]
                names += _needed(environment.parse(source)) if _NEEDS.search(source) else ()

    def _named_files(self, name: str, faults: list[str]) -> dict[str, str]:
        """Answer the files of the template ``name``, by field; a fault if there is none."""
        if self._folder and self._folder.looks_anew():
            self._files.clear()
            self._loaded.clear()
        if (known := self._files.get(name)) is not None:
            return known
        try:
            fault = self._missing(name)
            found = {
                field: file for field, file in _files(name) if not fault and self._folder and self._folder.has(file)
            }
        except OSError as error:
            fault = f"template {name}: {_unreadable(error)}"
        if fault:
            faults.append(fault)
            return {}
        self._files[name] = found
        return found

    def _part(self, field: str, mail: Mail, file: str | None, faults: list[str]) -> str | None:
        source = getattr(mail, field)
        if source == "" and file is not None:
            source = None  # an empty text is none: the template's goes before it
        try:
            if source is not None:
                return self._from_source(field, source, mail.context or {})
            return self._from_file(field, file, mail.context or {}) if file is not None else None
        except Exception as error:  # noqa: BLE001 - a template can raise whatever Python can; it is this mail's fault
            where = field if source is not None else f"template {file}"
            faults.append(self._told(error, where, file or field))
            return None

    def _from_source(self, field: str, source: str, context: Mapping[str, Any]) -> str:
        if not _TAG.search(source):
            return source
        with spending(Budget(self._most)) as budget:
            return self._run(self._template_of(field, source), context, budget)

    def _template_of(self, field: str, source: str) -> Template:
        return (self._remembered if len(source) <= _LONGEST_KEPT else self._compiled)(source, field == "body_html")

    def _from_file(self, field: str, file: str, context: Mapping[str, Any]) -> str:
        with spending(Budget(self._most)) as budget:
            template = self._loaded.get(file)
            if template is None:
                template = self._loaded[file] = self._named[field == "body_html"].get_template(file)
            text = self._run(template, context, budget)
        # A file ends with a line end; a subject does not.
        return text.strip() if field == "subject" else text

    def _compiled(self, source: str, html: bool) -> Template:  # noqa: FBT001 - a key of the cache
        sandbox = self._inline[html]
        sandbox.refuse_if_vast(source, "inline")
        return sandbox.from_string(source)

    def _run(self, template: Template, context: Mapping[str, Any], budget: Budget) -> str:
        environment, most = template.environment, self._most
        # As ``Template.new_context`` makes it, which copies the globals twice more.
        values = Context(environment, {**environment.globals, **context}, template.name, template.blocks)
        pieces, size = list[str](), 0
        try:
            stream = iter(template.root_render_func(values))
            while some := list(islice(stream, _PIECES)):
                budget.step(len(some))
                size += sum(map(len, some))
                _refuse_over(most, size)
                pieces += some
        except Exception:  # noqa: BLE001 - whatever it was, Jinja2 puts the template's lines in its traceback
            environment.handle_exception()
        text = "".join(pieces)
        if size > most // _UTF8 and not text.isascii():
            _refuse_over(most, len(text.encode("utf-8", "surrogatepass")))
        return text

    def _missing(self, name: str) -> str | None:
        shown = ascii(name)[1:-1][:80]
        if not is_template_name(name):
            allowed = f"1 to {LONGEST_NAME} letters, digits, '.', '_' and '-' are allowed"
            return f"template {shown}: is no template name; {allowed}"
        if self._folder is None:
            return f"template {shown}: there is no template directory; set MAILBATCH_TEMPLATE_DIR"
        if not any(self._folder.has(file) for _, file in _files(name)):
            return f"template {shown}: not found in {self.directory} (a folder with {', '.join(FILES.values())})"
        return None

    def _gaps(self, mail: Mail, parts: Mapping[str, str | None]) -> list[str]:
        """Say which part came from nowhere."""
        into = f", or add it to {self.directory}/{mail.template} as " if mail.template else ""
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
        return f"{part}{at}: {' '.join(why[: _LONGEST_ERROR * 10].split())[:_LONGEST_ERROR]}"

    def _failure(self, error: Exception) -> _Failure:
        """Answer the template file (none for an inline source), the line in it and the reason."""
        match error:
            case TemplateSyntaxError():
                why = error.message or "cannot be read"
                hint = "; {# begins a comment: in a style sheet write { #" if "end of comment" in why else ""
                # The lexer gives the file's path for its name.
                return (error.name or "").removeprefix(f"{self.directory}/"), error.lineno, why + hint
            case TemplateNotFound():
                return *_place(error, self.directory), f"cannot include '{error}': it is not in the template directory"
            case TypeError() if "no loader" in str(error):
                return *_place(error, None), "an inline source cannot include, import or extend; use a named template"
            case UnicodeDecodeError():
                return "", None, f"is not UTF-8 (byte {error.start})"
            case OSError():
                return *_place(error, self.directory), _unreadable(error)
        why = str(error) if type(error).__module__.startswith(("jinja2", "mailbatch")) else _classed(error)
        return *_place(error, self.directory), _PYTHONS_NULL.sub("null", why)


def has_tags(mail: Mail) -> bool:
    """Return whether ``mail`` needs the template engine."""
    sources = [getattr(mail, field) for field in FILES]
    return mail.template is not None or any(source is not None and _TAG.search(source) for source in sources)


def _needed(tree: nodes.Template) -> Iterator[str]:
    """Yield the names of the templates without which ``tree`` is never rendered, as far as they are constants."""
    heirs = [node for node in tree.body if isinstance(node, nodes.Extends)]
    others = (node for node in tree.body if isinstance(node, nodes.Include | nodes.Import | nodes.FromImport))
    # Of a template that extends another only the blocks are rendered.
    for node in heirs or others:
        if isinstance(node.template, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield str(node.template.value)


def _drop_the_empty_body(mail: Mail, parts: dict[str, str | None]) -> None:
    """Of two bodies an empty source is none; alone it is the mail's, which is empty then."""
    for field, other in (("body_html", "body_text"), ("body_text", "body_html")):
        if getattr(mail, field) == parts[field] == "" and parts[other] is not None:
            parts[field] = None


def _files(name: str) -> Iterator[tuple[str, str]]:
    return ((field, f"{name}/{file}") for field, file in FILES.items())


def _refuse_over(most: int, size: int) -> None:
    if size > most:
        raise OverBudget(f"makes more than {most} bytes")


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


def _unreadable(error: OSError) -> str:
    """What is wrong with a file, without its path: whoever sees a mail's errors need not see this machine's folders."""
    return f"cannot be read: {error.strerror or type(error).__name__}"


def _classed(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
