"""Checks templates before a mail uses them: each language of a template, rendered with its ``sample.json``."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateNotFound, meta

from mailbatch.domain.checks import line_problems
from mailbatch.domain.errors import CannotCompose, NotFound
from mailbatch.domain.reservation import Mail
from mailbatch.domain.template_check import CheckedTemplate
from mailbatch.infrastructure.templates.budget import Budget
from mailbatch.infrastructure.templates.images import IMAGE_NAMES, is_image_name
from mailbatch.infrastructure.templates.loader import FolderLoader, is_template_name
from mailbatch.infrastructure.templates.renderer import TemplateRenderer
from mailbatch.infrastructure.templates.sandbox import Sandbox
from mailbatch.infrastructure.templates.sources import needed
from mailbatch.infrastructure.templates.template_files import find_files, languages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mailbatch.domain.letter import Rendered
    from mailbatch.infrastructure.templates.options import Options

SAMPLE = "sample.json"
"""A context with a value for each variable, in the template's folder or in that of a language."""
SHOWN_BY_GMAIL = 102 * 1024
"""Bytes of HTML from which on Gmail cuts a mail off."""
_IMAGE = re.compile(r"<img\b[^>]*?\ssrc\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+))", re.IGNORECASE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


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
        """Return the names of all templates, sorted. A folder with neither subject nor body is none."""
        folders = (entry.name for entry in self._loader.directory.iterdir() if entry.is_dir())
        return sorted(name for name in folders if is_template_name(name) and self._locales(name))

    def __call__(self, name: str) -> CheckedTemplate:
        """Return what is wrong with the template ``name``. Raises ``NotFound`` if there is none."""
        locales = self._locales(name) if is_template_name(name) else []
        if not locales:
            raise NotFound(f"no template {ascii(name)[1:-1][:80]} in {self._loader.directory}")
        findings = [(locale, line) for locale in locales for line in self._findings(name, locale)]
        rendered = all(self._sample_file(name, locale) for locale in locales)
        return CheckedTemplate(name=name, locales=tuple(locales), rendered=rendered, findings=tuple(findings))

    def _locales(self, name: str) -> list[str]:
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
            sample = self._sample(name, locale)
        except ValueError as error:
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

    def _sample(self, name: str, locale: str) -> Mapping[str, Any] | None:
        """Return the context in ``sample.json``, or None. Raises ``ValueError`` if it is no JSON object."""
        file = self._sample_file(name, locale)
        if file is None:
            return None
        try:
            sample = json.loads(self._loader.read(file))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is no JSON: {' '.join(str(error).split())}") from error
        if not isinstance(sample, dict):
            raise ValueError(f"{file} is no JSON object of names and values")  # noqa: TRY004 - of the file, not of ours
        return sample

    def _variables(self, name: str, locale: str) -> set[str]:
        """Return the names that the files of the template need, with all that they always include."""
        environment, found, seen = Sandbox(html=True, loader=self._loader), set[str](), set[str]()
        names = list(find_files(self._loader, name, locale, self._options).files.values())
        while names:
            file = names.pop()
            if file in seen:
                continue
            seen.add(file)
            with Budget(self._max_bytes):
                tree = environment.parse(self._loader.get_source(environment, file)[0])
            found |= meta.find_undeclared_variables(tree)
            names += needed(tree)
        return found - set(environment.globals)

    def _faults(self, name: str, rendered: Rendered) -> Iterator[str]:
        yield from line_problems("subject", rendered.subject)
        if not rendered.subject.strip():
            yield "subject: is empty"
        if rendered.text is None:
            yield "has HTML and no text: add body.txt, or html_to_text = true to template.toml"
        html = (rendered.html or "").encode("utf-8", "replace")
        if len(html) > SHOWN_BY_GMAIL:
            yield f"body.html has {len(html)} bytes; Gmail cuts a mail off after {SHOWN_BY_GMAIL}"
        embedded = {f"cid:{one.content_id}" for one in rendered.images}
        for image in dict.fromkeys(one for found in _IMAGE.findall(rendered.html or "") for one in found if one):
            if image not in embedded and (file := _file_of(image)):
                why = f"which is not in {name}/" if is_image_name(file) else f"which is not embedded: {IMAGE_NAMES}"
                yield f"body.html shows the image {ascii(image)[1:-1][:80]}, {why}"

    def _places(self, name: str, locale: str) -> list[str]:
        folder = languages_of(self._loader, name).get(locale.lower().replace("_", "-"))
        return [folder, name] if folder else [name]

    def _has(self, file: str) -> bool:
        try:
            return self._loader.has(file)
        except TemplateNotFound:  # a name that no file may have
            return False


def _file_of(image: str) -> str | None:
    """Return the file that ``src`` names in the template's folder; None for an image elsewhere."""
    if image.lower().startswith("cid:"):
        return image[4:]
    return None if _ELSEWHERE.match(image) else image
