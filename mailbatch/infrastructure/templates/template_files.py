"""Finds which files of a template serve a mail: those of its language, otherwise those of the default language."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, NamedTuple

from mailbatch.domain.locale import ranges
from mailbatch.domain.redaction.lines import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailbatch.infrastructure.templates.loader import FolderLoader
    from mailbatch.infrastructure.templates.options import Options

FILES = {"subject": "subject.txt", "body_text": "body.txt", "body_html": "body.html"}
"""The files of a named template, by the field of the mail that they replace."""
SETTINGS = "template.toml"
_LONGEST_SETTINGS = 65_536


class TemplateFiles(NamedTuple):
    """The files of a template for one language.

    ``files``: their names, by the field of the mail. ``locale``: the language in which filters write.
    ``html_to_text``: as in ``template.toml``, or None.
    """

    files: dict[str, str]
    locale: str
    html_to_text: bool | None = None


def find_files(loader: FolderLoader, name: str, tag: str, options: Options) -> TemplateFiles:
    """Return the files of the template ``name`` for the language ``tag``.

    They are never mixed from two languages: a German mail gets no English text beside its German HTML.

    Raises:
        ValueError: with one line; there are none, or ``template.toml`` is wrong.
        OSError: the folder cannot be read.
    """
    folders = languages_of(loader, name)
    wanted, default = ranges(tag), ranges(options.locale)
    direct = [name] if set(wanted) & set(default) else []
    own = _in_places(loader, [*_folders(folders, wanted), *direct])
    if own:
        return TemplateFiles(own, tag, html_to_text(loader, name))
    others = _in_places(loader, [*_folders(folders, default), name])
    if others and not options.locale_strict:
        return TemplateFiles(others, options.locale, html_to_text(loader, name))
    if not others and not folders:
        raise ValueError(f"not found in {loader.directory} (a folder with {', '.join(FILES.values())})")
    languages = sorted(folder.rpartition("/")[2] for folder in folders.values())
    if _in_places(loader, [name]):
        languages.append(f"{options.locale} (the files in the folder itself)")
    raise ValueError(f"has no language {tag}; it has {', '.join(languages)}")


def language_of(file: str, options: Options) -> str:
    """Return the language of ``file``, which ``find_files`` has found: that of its folder, or else the default one."""
    _, *folder, _ = file.split("/")
    return folder[0] if folder else options.locale


def languages_of(loader: FolderLoader, name: str) -> dict[str, str]:
    """Return the folders of languages in the template's folder, by the tag in lower case with hyphens."""
    folders = [(ranges(folder), f"{name}/{folder}") for folder in loader.folders(name)]
    # A folder of images may have a name such as ``img``, which is also that of a language.
    return {tags[0]: folder for tags, folder in reversed(folders) if tags and _in_places(loader, [folder])}


def html_to_text(loader: FolderLoader, name: str) -> bool | None:
    """Return what ``template.toml`` says, or None. Raises ``ValueError`` if it is wrong."""
    file = f"{name}/{SETTINGS}"
    if not loader.has(file):
        return None
    try:
        settings = tomllib.loads(loader.read(file, _LONGEST_SETTINGS).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{SETTINGS} is no TOML: {error}") from error
    value = settings.pop("html_to_text", None)
    if settings:
        raise ValueError(f"{SETTINGS} has {quoted(next(iter(settings)), 40)}; it may have html_to_text")
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{SETTINGS}: html_to_text must be true or false")
    return value


def _folders(folders: dict[str, str], tags: Iterable[str]) -> Iterator[str]:
    return (folders[tag] for tag in tags if tag in folders)


def _in_places(loader: FolderLoader, places: list[str]) -> dict[str, str]:
    """Return for each field the file in the first of ``places`` that has it."""
    found = {}
    for field, file in FILES.items():
        for place in places:
            if loader.has(f"{place}/{file}"):
                found[field] = f"{place}/{file}"
                break
    return found
