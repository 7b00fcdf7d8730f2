"""What is known of files before they are read, and refuses their mail when it is reserved."""

from __future__ import annotations

from base64 import b64encode

import pytest

from mailbatch.domain.attachment_list import read_attachments
from mailbatch.domain.file_rules import FileRules, attachment_problems, sizes_problem

RULES = FileRules(max_inline_bytes=20, refused=("*.exe", "*.js"))
ID = "a" * 64


def inline(size: int, filename: str = "a.txt") -> dict[str, str]:
    return {"content": b64encode(b"x" * size).decode(), "filename": filename}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"path": "/etc/passwd"}, "attachments: /etc/passwd: is an absolute path; give it from the folder of attach"),
        ({"path": "a/../../b.pdf"}, "attachments: a/../../b.pdf: has .. in its path, which may not lead upwards"),
        ({"path": "a/" * 50 + "b.pdf"}, "is no path of a file"),
        ({"path": "a.pdf/"}, "is no path of a file"),
        ({"path": "x/Setup.EXE "}, "attachments: Setup.EXE : may not be attached; MAILBATCH_REFUSED_FILES has *.exe"),
        ({"file": ID, "filename": "a.js"}, "attachments: a.js: may not be attached"),
        (inline(21), "attachments: a.txt: has 21 bytes; MAILBATCH_MAX_INLINE_BYTES allows 20 for content"),
        ({"content": "YQ", "filename": "a.txt"}, "attachments: a.txt: content is no base64"),
        ({"content": "\u00fc===", "filename": "a.txt"}, "attachments: a.txt: content is no base64"),
    ],
)
def test_a_file_that_no_mail_could_ever_have_is_refused(entry, expected):
    [problem] = attachment_problems([entry], RULES, 10_000)
    assert expected in problem


def test_a_path_is_refused_where_there_is_no_folder():
    [problem] = attachment_problems([{"path": "a.pdf"}], FileRules(has_folder=False), 10_000)
    assert problem == "attachments: a.pdf: there is no folder for paths; set MAILBATCH_ATTACHMENT_DIR"
    assert attachment_problems([{"path": "a.pdf"}], FileRules(), 10_000) == []


def test_the_first_file_with_which_the_message_is_too_large_is_named():
    two = [inline(20), inline(20, "b.txt")]
    assert attachment_problems(two, RULES, 60) == []
    [problem] = attachment_problems([*two, inline(20, "c.txt")], RULES, 60)
    assert problem == (
        "attachments: c.txt: has 20 bytes, 30 on the wire; with it the message is larger than "
        "MAILBATCH_MAX_MESSAGE_BYTES (60)"
    )
    references = read_attachments([{"path": "unknown.pdf"}, {"file": ID}], [])
    assert sizes_problem(references, {ID: 40}, 58) is None
    assert sizes_problem(references, {ID: 40}, 57) is not None
    assert sizes_problem(references, {}, 1) is None
