"""Twelve HTML templates in three languages, sent to a relay: two readers find what was meant, part by part."""

from __future__ import annotations

import base64
from email.parser import BytesParser
from email.policy import default
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from support.backlogs import database, states
from support.gallery import CONTEXT, FILES, write_gallery
from support.sink import Sink

from mailbatch.batch.send_all import send_all
from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.content_types import content_type_of
from mailbatch.domain.reservation import Mail
from mailbatch.infrastructure.db.migrate import upgrade
from mailbatch.infrastructure.db.tables import mail_reservations
from mailbatch.infrastructure.templates.options import Options
from mailbatch.infrastructure.templates.preflight import Preflight
from mailbatch.infrastructure.templates.renderer import TemplateRenderer

if TYPE_CHECKING:
    from pathlib import Path

MOST = 10_000_000


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    folder = tmp_path_factory.mktemp("gallery")
    return folder, write_gallery(folder)


@pytest.fixture(scope="module")
def arrived(gallery, tmp_path_factory) -> dict[tuple[str, str], bytes]:
    """The bytes of each mail, as the relay got them."""
    folder, pairs = gallery
    place = tmp_path_factory.mktemp("sent")
    url = f"sqlite:///{place}/mailbatch.db"
    upgrade(url)
    with database(url) as connection:
        for name, locale in pairs:
            values = {"recipients": f"{name}-{locale}@example.org", "template": name, "locale": locale}
            files = FILES.get(name)
            connection.execute(sa.insert(mail_reservations).values(**values, context=CONTEXT, attachments=files))
    with Sink(place / "sink", store=True) as sink:
        settings = {"database_url": url, "smtp_url": sink.url, "sender": "alder@example.com", "template_dir": folder}
        parts = Parts(Settings(**settings))
        send_all(parts, lock=False)()
        parts.close()
        assert states(url) == {"sent": len(pairs)}
        raw = {one.recipients[0].partition("@")[0]: sink.raw(one) for one in sink.accepted()}
    return {(name, locale): raw[f"{name}-{locale}"] for name, locale in pairs}


@cache
def renderer(folder):
    return TemplateRenderer(folder, MOST, look_again=600)


@cache
def meant(folder, name, locale):
    """Subject, bodies and files of a mail, as template and attachments have them."""
    rendered = renderer(folder)(Mail(recipients="", template=name, locale=locale, context=CONTEXT))
    [logo] = rendered.images
    content = (folder / name / locale / "logo.png").read_bytes()
    files = [("logo.png", "image/png", sha256(content).hexdigest(), logo.content_id)]
    for one in FILES.get(name, []):
        kind = one.get("content_type", content_type_of(one["filename"])).partition(";")[0]
        # An invitation is an alternative of the text, and has no name.
        name_of = None if "method=" in one.get("content_type", "") else one["filename"]
        files.append((name_of, kind, sha256(base64.b64decode(one["content"])).hexdigest(), None))
    return {
        "subject": rendered.subject,
        "text": lines(rendered.text),
        "html": lines(rendered.html),
        "files": sorted(files, key=str),
    }


def lines(text):
    return text.replace("\r\n", "\n").rstrip("\n")


def test_there_are_twelve_in_three_languages_and_all_are_in_order(gallery):
    folder, pairs = gallery
    preflight = Preflight(folder, MOST, Options())
    assert len(preflight.names()) * 3 == len(pairs) == 36
    assert [one.findings for one in map(preflight, preflight.names())] == [()] * 12
    size = len(meant(folder, "newsletter", "en")["html"].encode())
    assert 78_000 < size < 84_000


def test_the_standard_library_reads_each_part_as_it_was_meant(gallery, arrived):
    for (name, locale), raw in arrived.items():
        mail = BytesParser(policy=default).parsebytes(raw)
        files = [
            (
                part.get_filename(),
                part.get_content_type(),
                sha256(part.get_payload(decode=True)).hexdigest(),
                (part["content-id"] or "").strip("<>") or None,
            )
            for part in mail.walk()
            if part.get_content_type() not in ("text/plain", "text/html") and not part.is_multipart()
        ]
        assert {
            "subject": mail["subject"],
            "text": lines(mail.get_body(("plain",)).get_content()),
            "html": lines(mail.get_body(("html",)).get_content()),
            "files": sorted(files, key=str),
        } == meant(gallery[0], name, locale)


def test_a_calendar_part_names_its_method(arrived):
    mail = BytesParser(policy=default).parsebytes(arrived["appointment", "de"])
    [part] = [part for part in mail.walk() if part.get_content_type() == "text/calendar"]
    assert part["content-type"].params["method"] == "REQUEST"


def test_mailparser_reads_each_part_as_it_was_meant(gallery, arrived, mailparser):
    for (name, locale), mail in zip(arrived, mailparser(list(arrived.values())), strict=True):
        files = [
            (filename, kind, sha256(base64.b64decode(content)).hexdigest(), cid)
            for (filename, kind, content), cid in zip(mail["files"], mail["cids"], strict=True)
        ]
        assert {
            "subject": mail["subject"],
            "text": lines(mail["text"]),
            "html": lines(mail["html"]),
            "files": sorted(files, key=str),
        } == meant(gallery[0], name, locale)
