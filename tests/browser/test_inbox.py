"""The local inbox in a real browser: what its pages promise, its policy must allow."""

from __future__ import annotations

from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from mailbatch.interfaces.cli.inbox_pages import StoredMail, write_page

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser installs it")


def test_a_click_saves_a_file_of_a_mail_and_opens_none(chrome: Browser, tmp_path: Path) -> None:
    message = EmailMessage()
    message["Subject"] = "files"
    message.set_content("text")
    message.add_attachment(b"<script>document.title = 'ran'</script>", "text", "html", filename="März.html")
    message.add_attachment(b"%PDF", "application", "pdf", filename="a b.pdf")
    content = message.as_bytes()
    (tmp_path / "1.eml").write_bytes(content)
    write_page(tmp_path, StoredMail(1, 0.0, "1.eml", "s@example.com", ("a@example.com",), None, len(content)))
    page = chrome.new_page(accept_downloads=True)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text))
    page.goto((tmp_path / "pages" / "1.html").as_uri())
    for name, part in (("März.html", b"<script>document.title = 'ran'</script>"), ("a b.pdf", b"%PDF")):
        with page.expect_download() as saved:
            page.get_by_role("link", name=name).click()
        assert saved.value.suggested_filename == name
        assert saved.value.path().read_bytes() == part
    assert page.title() == "files"
    assert complaints == []
    page.close()
