"""Checks templates before a mail uses them: each language of a template, rendered with its ``sample.json``."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateNotFound, meta, nodes

from mailbatch.domain.checks import line_problems
from mailbatch.domain.errors import CannotCompose, NotFound
from mailbatch.domain.redaction.lines import shown
from mailbatch.domain.reservation import Mail
from mailbatch.domain.template_check import CheckedTemplate
from mailbatch.infrastructure.shared_folder import why_away
from mailbatch.infrastructure.templates.budget import Budget
from mailbatch.infrastructure.templates.failures import unreadable
from mailbatch.infrastructure.templates.images import not_embedded
from mailbatch.infrastructure.templates.loader import FolderLoader, is_template_name
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sandbox import Sandbox
from mailbatch.infrastructure.templates.sources import needed
from mailbatch.infrastructure.templates.template_files import SETTINGS, find_files, languages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mailbatch.domain.letter import Rendered
    from mailbatch.infrastructure.templates.options import Options

SAMPLE = "sample.json"
"""A context with a value for each variable, in the template's folder or in that of a language."""
LARGEST_SAMPLE = 2**20
"""Bytes."""
SHOWN_BY_GMAIL = 102 * 1024
"""Bytes of HTML from which on Gmail cuts a mail off."""


class Preflight:
    """Checks the templates in ``directory``; ``max_bytes``: the largest message.

    A template without a ``sample.json`` is only compiled.
    """

    def __init__(self, directory: Path, max_bytes: int, options: Options) -> None:
        self._loader = FolderLoader(directory)
        self._max_bytes = max_bytes
        self._options = options
        self._render = TemplateRenderer(directory, max_bytes, options=options)

    def names(self) -> list[str]:
        """Return the names of all templates, sorted. A folder with neither subject nor body is none.

        Raises ``NotFound`` if the directory cannot be read.
        """
        with self._reading():
            folders = (entry.name for entry in self._loader.directory.iterdir() if entry.is_dir())
            return sorted(name for name in folders if is_template_name(name) and self._locales_in(name))

    def __call__(self, name: str) -> CheckedTemplate:
        """Return what is wrong with the template ``name``. Raises ``NotFound`` if there is none."""
        locales = self.locales(name)
        findings = [(locale, line) for locale in locales for line in self._findings(name, locale)]
        rendered = all(self._sample_file(name, locale) for locale in locales)
        return CheckedTemplate(name=name, locales=locales, rendered=rendered, findings=tuple(findings))

    def locales(self, name: str) -> tuple[str, ...]:
        """Return the languages of the template ``name``, the default one first.

        Raises ``NotFound`` if there is no such template, or if the whole directory is away.
        """
        with self._reading():
            if locales := self._locales_in(name) if is_template_name(name) else []:
                return tuple(locales)
        if away := why_away(self._loader.directory):
            raise NotFound(f"template {shown(name, 80)}: {away}")
        raise NotFound(f"no template {shown(name, 80)} in {self._loader.directory}")

    def has_sample(self, name: str, locale: str) -> bool:
        """Return whether there is a ``sample.json`` for this language."""
        return self._sample_file(name, locale) is not None

    def sample(self, name: str, locale: str) -> Mapping[str, Any] | None:
        """Return the context in ``sample.json``, or None.

        Raises ``ValueError`` if it is no JSON object, and ``NotFound`` if it cannot be read.
        """
        file = self._sample_file(name, locale)
        if file is None:
            return None
        with self._reading():
            content = self._loader.read(file, LARGEST_SAMPLE + 1)
        if len(content) > LARGEST_SAMPLE:
            raise ValueError(f"{file} has more than {LARGEST_SAMPLE} bytes")
        try:
            sample = json.loads(content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 (byte {error.start})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is no JSON: {' '.join(str(error).split())}") from error
        if not isinstance(sample, dict):
            raise ValueError(f"{file} is no JSON object of names and values")  # noqa: TRY004 - of the file, not of ours
        return sample

    def sources(self, name: str, locale: str, most: int) -> dict[str, str]:
        """Return the first ``most`` bytes of each file of the template in this language, as text.

        Raises ``ValueError`` if there are none, and ``NotFound`` if they cannot be read.
        """
        with self._reading():
            files = [*find_files(self._loader, name, locale, self._options).files.values(), f"{name}/{SETTINGS}"]
            files += filter(None, [self._sample_file(name, locale)])
            contents = {file: self._loader.read(file, most) for file in files if self._has(file)}
        return {file: content.decode("utf-8-sig", "replace") for file, content in contents.items()}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotFound(f"the template directory {self._loader.directory}: {unreadable(error)}") from error

    def _locales_in(self, name: str) -> list[str]:
        """Return the default language, if there are files for it, and the languages with a folder."""
        folders = [folder.rpartition("/")[2] for folder in languages_of(self._loader, name).values()]
        direct = any(self._loader.has(f"{name}/{file}") for file in ("subject.txt", "body.txt", "body.html"))
        return [*([self._options.locale] if direct else []), *sorted(folders)]

    def _findings(self, name: str, locale: str) -> Iterator[str]:
        mail = Mail(recipients="", template=name, locale=locale)
        if problems := self._render.problems(mail):
            yield from problems
            return
        try:
            sample = self.sample(name, locale)
        except (ValueError, NotFound) as error:
            yield str(error)
            return
        if sample is None:
            return
        if unknown := sorted(self._variables(name, locale) - set(sample)):
            yield f"{name}/{SAMPLE} has no value for {', '.join(unknown)}"
            return
        try:
            rendered = self._render(Mail(recipients="", template=name, locale=locale, context=sample))
        except CannotCompose as error:
            yield from error.errors
        else:
            yield from self._faults(name, rendered)

    def _sample_file(self, name: str, locale: str) -> str | None:
        files = (f"{place}/{SAMPLE}" for place in self._places(name, locale))
        return next((file for file in files if self._has(file)), None)

    def _variables(self, name: str, locale: str) -> set[str]:
        """Return the names that the files of the template need, with all that they always include."""
        environment = Sandbox(html=True, loader=self._loader)
        found, given, seen = set[str](), set[str](), set[str]()
        names = list(find_files(self._loader, name, locale, self._options).files.values())
        while names:
            file = names.pop()
            if file in seen:
                continue
            seen.add(file)
            with Budget(self._max_bytes):
                tree = environment.parse(self._loader.get_source(environment, file)[0])
            found |= meta.find_undeclared_variables(tree)
            given |= set(_exports(tree))
            names += needed(tree)
        return found - given - set(environment.globals)

    def _faults(self, name: str, rendered: Rendered) -> Iterator[str]:
        yield from line_problems("subject", rendered.subject)
        if not rendered.subject.strip():
            yield "subject: is empty"
        if rendered.text is None:
            yield "has HTML and no text: add body.txt, or html_to_text = true to template.toml"
        html = (rendered.html or "").encode("utf-8", "replace")
        if len(html) > SHOWN_BY_GMAIL:
            yield f"body.html has {len(html)} bytes; Gmail cuts a mail off after {SHOWN_BY_GMAIL}"
        for line in not_embedded(rendered.html or "", rendered.images, name).values():
            yield f"body.html shows the image {line}"

    def _places(self, name: str, locale: str) -> list[str]:
        folder = languages_of(self._loader, name).get(locale.lower().replace("_", "-"))
        return [folder, name] if folder else [name]

    def _has(self, file: str) -> bool:
        try:
            return self._loader.has(file)
        except TemplateNotFound:  # a name that no file may have
            return False


def _exports(tree: nodes.Template) -> Iterator[str]:
    """Yield the names that a template sets at its top level. Its blocks, its parents and what it includes see them.

    Jinja2 counts such a name as undeclared where a block uses it.
    """
    for node in tree.body:
        match node:
            case nodes.Import():
                yield node.target
            case nodes.FromImport():
                yield from (name if isinstance(name, str) else name[1] for name in node.names)
            case nodes.Macro():
                yield node.name
            case nodes.Assign() | nodes.AssignBlock():
                yield from (one.name for one in node.find_all(nodes.Name) if one.ctx == "store")
