"""Finds and compiles the sources of a mail: its own inline ones, and the files of the template that it names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import nodes

from mailbatch.domain.redaction.lines import shown
from mailbatch.infrastructure.shared_folder import why_away
from mailbatch.infrastructure.templates.failures import unreadable
from mailbatch.infrastructure.templates.images import not_embedded
from mailbatch.infrastructure.templates.loader import LONGEST_NAME, FolderLoader, is_template_name
from mailbatch.infrastructure.templates.sandbox import Sandbox
from mailbatch.infrastructure.templates.template_files import FILES, TemplateFiles, find_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jinja2 import Template

    from mailbatch.domain.attachment_list import Reference
    from mailbatch.domain.reservation import Mail
    from mailbatch.infrastructure.templates.options import Options

has_tag = re.compile(r"\{[{%#]").search
"""Finds what a source has for the template engine; None if it is plain text."""
_NEEDS = re.compile(r"\{%[-+]?\s*(?:extends|include|import|from)\b")
_KEPT_SOURCES = 256
_LONGEST_KEPT = 32_768


def has_tags(mail: Mail) -> bool:
    """Return whether ``mail`` needs the template engine."""
    sources = [getattr(mail, field) for field in FILES]
    return mail.template is not None or any(source is not None and has_tag(source) for source in sources)


def missing_parts(mail: Mail, parts: Mapping[str, str | None], directory: Path | None) -> list[str]:
    """Return a line for the subject and for the bodies if neither the mail nor its template has them."""
    has_body = parts["body_text"] is not None or parts["body_html"] is not None
    if parts["subject"] is not None and has_body:
        return []
    into = f", or add it to {directory}/{mail.template} as " if mail.template else ""
    lines = []
    if parts["subject"] is None:
        lines.append(f"subject: is missing; give one{into and into + 'subject.txt'}")
    if not has_body:
        lines.append(f"body_text: is missing; give body_text or body_html{into and into + 'body.txt or body.html'}")
    return lines


class Sources:
    """The compiled sources of a process. Use it inside a ``Budget``: compiling is a part of the rendering.

    A file that changes is seen ``look_again`` seconds later at the latest.
    """

    def __init__(self, directory: Path | None, look_again: float, options: Options) -> None:
        self.directory = directory
        self._options = options
        self._loader = FolderLoader(directory, look_again) if directory else None
        self._inline = {html: Sandbox(html=html) for html in (False, True)}
        self._named = {html: Sandbox(html=html, loader=self._loader) for html in (False, True)}
        self._kept = lru_cache(maxsize=_KEPT_SOURCES)(self._compile)
        # Valid for a period of the loader: the files of each template by language, and what they compile to.
        self._files: dict[tuple[str, str], TemplateFiles] = {}
        self._loaded: dict[str, Template] = {}
        self._checked: dict[tuple[str, str], dict[str, str]] = {}

    def files_of(self, name: str, tag: str, faults: list[str]) -> TemplateFiles:
        """Return the files of the template ``name`` for the language ``tag``. Add a line to ``faults`` if it has none.

        ``tag`` is a tag of BCP 47.
        """
        if self._loader and self._loader.begin_period():
            self._files.clear()
            self._loaded.clear()
            self._checked.clear()
        if (known := self._files.get((name, tag))) is not None:
            return known
        try:
            found = self._find(name, tag)
        except ValueError as error:
            faults.append(f"template {shown(name, LONGEST_NAME if is_template_name(name) else 80)}: {error}")
            return TemplateFiles({}, tag)
        if len(self._files) >= _KEPT_SOURCES:
            self._files.clear()
        self._files[name, tag] = found
        return found

    def away(self) -> str | None:
        """Return why the folder of templates cannot serve any mail now; None if it is there, or if there is none."""
        return why_away(self.directory) if self.directory else None

    def _find(self, name: str, tag: str) -> TemplateFiles:
        if not is_template_name(name):
            raise ValueError(f"is no template name; 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-' are allowed")
        if self._loader is None:
            raise ValueError("there is no template directory; set MAILBATCH_TEMPLATE_DIR")
        try:
            return find_files(self._loader, name, tag, self._options)
        except OSError as error:
            raise ValueError(unreadable(error)) from error

    def images_in(self, html: str | None) -> tuple[Reference, ...]:
        """Return the images that ``html``, which a template of the folder made, shows of that folder."""
        return self._loader.images.shown_in(html) if self._loader else ()

    def inline(self, field: str, source: str) -> Template:
        """Return the compiled template of a mail's own source."""
        return (self._kept if len(source) <= _LONGEST_KEPT else self._compile)(source, field == "body_html")

    def _compile(self, source: str, html: bool) -> Template:  # noqa: FBT001 - a key of the cache
        sandbox = self._inline[html]
        sandbox.refuse_if_vast(source, "inline")
        return sandbox.from_string(source)

    def named(self, field: str, file: str) -> Template:
        """Return the compiled template of a file."""
        template = self._loaded.get(file)
        if template is None:
            template = self._loaded[file] = self._named[field == "body_html"].get_template(file)
        return template

    def check_inline(self, field: str, source: str) -> None:
        """Compile a mail's own source, which may include nothing; raise what fails."""
        self.inline(field, source)
        if _NEEDS.search(source) and any(needed(self._inline[field == "body_html"].parse(source))):
            raise TypeError("no loader")

    def check_named(self, field: str, file: str) -> dict[str, str]:
        """Compile ``file`` and all the files without which it is never rendered; raise what fails.

        Return each image that they show and that is not there, with a line that says so.
        """
        if (known := self._checked.get((field, file))) is None:
            known = self._checked[field, file] = dict(self._missing_images(self._named[field == "body_html"], file))
        return known

    def _missing_images(self, environment: Sandbox, file: str) -> Iterator[tuple[str, str]]:
        seen, names = set[str](), [file]
        while names and self._loader is not None:
            name = names.pop()
            if name not in seen:
                seen.add(name)
                environment.get_template(name)
                source = self._loader.get_source(environment, name)[0]
                names += needed(environment.parse(source)) if _NEEDS.search(source) else ()
                folder, embedded = name.partition("/")[0], self._loader.images.shown_in(source)
                for image, line in not_embedded(source, embedded, folder).items():
                    yield image, f"template {name}: shows the image {line}"


def needed(tree: nodes.Template) -> Iterator[str]:
    """Yield the names of the templates without which ``tree`` is never rendered, as far as they are constants."""
    parents = [node for node in tree.body if isinstance(node, nodes.Extends)]
    others = (node for node in tree.body if isinstance(node, nodes.Include | nodes.Import | nodes.FromImport))
    # If a template extends another, only its blocks are rendered.
    for node in parents or others:
        if isinstance(node.template, nodes.Const) and not getattr(node, "ignore_missing", False):
            yield str(node.template.value)
