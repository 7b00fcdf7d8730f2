"""Files of mails: each is loaded and encoded once, and what cannot be sent is its own mail's error."""

from __future__ import annotations

import gc
from base64 import b64decode, b64encode
from contextlib import contextmanager
from hashlib import sha256

import pytest
from support.contents import Cut

from mailbatch.application.sending.enclose import Enclose
from mailbatch.application.sending.encoded_files import EncodedFiles
from mailbatch.domain.attachment_list import InFolder, Inline, InStore, InTemplates, Reference
from mailbatch.domain.content import ContentInMemory
from mailbatch.domain.errors import CannotCompose, StoreError
from mailbatch.domain.file_rules import FileRules
from mailbatch.domain.rows import StoredFile


class Disk:
    """The port ``Folder`` in memory. ``read`` are the paths whose bytes were read, in order."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.read = files, list[str]()

    @contextmanager
    def open(self, path):
        if path not in self.files:
            raise CannotCompose([f"attachments: {path}: is not there"])
        yield OnDisk(self, path)


class OnDisk:
    def __init__(self, disk: Disk, path: str) -> None:
        self.disk, self.path = disk, path
        self.size, self.version = len(disk.files[path]), (path, disk.files[path])

    def pieces(self):
        self.disk.read.append(self.path)
        yield self.disk.files[self.path]


class Rows:
    """The port ``Files``. ``find`` and ``content`` are counted."""

    def __init__(self, *contents: bytes, filename: str | None = "terms.pdf") -> None:
        self.contents = {sha256(content).hexdigest(): content for content in contents}
        self.filename, self.found, self.read = filename, 0, 0

    def find(self, file_id):
        self.found += 1
        if file_id not in self.contents:
            return None
        size = len(self.contents[file_id])
        return StoredFile(id=file_id, filename=self.filename, content_type="application/x-terms", size=size)

    def content(self, file):
        rows = self

        class Counted(ContentInMemory):
            def pieces(self):
                rows.read += 1
                return ContentInMemory.pieces(self)

        return Counted(self.contents[file.id])


class Kept(Cut):
    """A content that can be forgotten."""

    __hash__ = object.__hash__


def encode(pieces) -> Kept:
    return Kept((b64encode(b"".join(pieces)) + b"\r\n",))


def enclose_with(*, disk=None, rows=None, **settings) -> Enclose:
    rules = FileRules(max_inline_bytes=settings.pop("max_inline_bytes", 1_000), refused=settings.pop("refused", ()))
    return Enclose(
        folder=disk or Disk({}),
        templates=settings.pop("templates", Disk({})),
        files=rows or Rows(),
        encode=encode,
        rules=rules,
        **{"max_bytes": 10_000} | settings,
    )


def at(path: str, **labels) -> Reference:
    return Reference(source=InFolder(path), **labels)


def inline(content: bytes, filename: str = "a.txt") -> Reference:
    return Reference(source=Inline(b64encode(content).decode()), filename=filename)


def content_of(part) -> bytes:
    return b64decode(b"".join(part.encoded.pieces()))


def fault(enclose: Enclose, *references: Reference) -> str:
    with pytest.raises(CannotCompose) as caught:
        enclose(references)
    [line] = caught.value.errors
    return line


def test_a_file_of_many_mails_is_read_once():
    disk = Disk({"a.pdf": b"%PDF"})
    enclose = enclose_with(disk=disk)
    parts = [enclose([at("a.pdf", filename=f"{n}.pdf")])[0] for n in range(300)]
    assert disk.read == ["a.pdf"]
    assert {content_of(part) for part in parts} == {b"%PDF"}
    assert [part.filename for part in parts[:2]] == ["0.pdf", "1.pdf"]


def test_a_file_that_changed_is_read_again():
    disk = Disk({"a.pdf": b"old"})
    enclose = enclose_with(disk=disk)
    enclose([at("a.pdf")])
    disk.files["a.pdf"] = b"new"
    assert content_of(enclose([at("a.pdf")])[0]) == b"new"


def test_a_stored_file_is_looked_up_and_read_once():
    rows = Rows(b"terms")
    enclose = enclose_with(rows=rows)
    [file_id] = rows.contents
    parts = [enclose([Reference(source=InStore(file_id))])[0] for _ in range(300)]
    assert (rows.found, rows.read) == (1, 1)
    assert (parts[0].filename, parts[0].content_type) == ("terms.pdf", "application/x-terms")
    named = Reference(source=InStore(file_id), filename="AGB.pdf", content_type="application/pdf")
    assert (enclose([named])[0].filename, enclose([named])[0].content_type) == ("AGB.pdf", "application/pdf")


def test_the_same_content_in_several_mails_is_kept_once_while_one_is_sent():
    enclose = enclose_with()
    first, second = enclose([inline(b"ticket")]), enclose([inline(b"ticket", "b.txt")])
    assert first[0].encoded is second[0].encoded
    del first, second
    gc.collect()
    assert not enclose.encoded._used


def test_files_that_no_mail_uses_are_kept_up_to_a_bound():
    encoded, made = EncodedFiles(kept_bytes=10), list[str]()

    def make(key: str) -> Kept:
        made.append(key)
        return Kept((b"xx\r\n",))

    for key in "abcab":
        encoded.get(key, lambda key=key: make(key), keep=True)
        gc.collect()
    assert made == [*"abc", *"ab"], "two files of four bytes have room, the third takes the place of the oldest"


def test_a_file_in_use_is_never_encoded_twice_however_small_the_bound():
    disk = Disk({"a.pdf": b"%PDF"})
    enclose = enclose_with(disk=disk, encoded=EncodedFiles(kept_bytes=0))
    held = [enclose([at("a.pdf")]) for _ in range(3)]
    assert disk.read == ["a.pdf"]
    assert len(held) == 3


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        (at("b.pdf"), "attachments: b.pdf: is not there"),
        (
            Reference(source=InStore("0" * 64)),
            f"attachments: {'0' * 64}: there is no stored file with the id {'0' * 64}",
        ),
        (inline(b"x" * 1_001), "attachments: a.txt: has 1001 bytes; MAILBATCH_MAX_INLINE_BYTES allows 1000"),
        (
            Reference(source=Inline("a"), filename="a.txt"),
            "attachments: a.txt: content is no base64: Invalid base64-encoded string: number of data characters (1) ",
        ),
        (
            at("fat.pdf"),
            "attachments: fat.pdf: has 9000 bytes, 12316 on the wire; with it the message is larger than MAILBATCH",
        ),
        (at("a.pdf", filename="a\u202e.pdf"), r"attachments: a\u202e.pdf: has the character U+202E"),
        (
            at("a.pdf", filename="x/Setup.EXE. "),
            "attachments: Setup.EXE. : may not be attached; MAILBATCH_REFUSED_FILES",
        ),
    ],
)
def test_a_file_that_cannot_be_sent_is_named(reference, line):
    disk = Disk({"a.pdf": b"%PDF", "fat.pdf": bytes(9_000)})
    enclose = enclose_with(disk=disk, refused=("*.js", "*.exe"))
    assert fault(enclose, reference).startswith(line)
    assert disk.read == [], "what is refused is not read"


def test_several_files_together_are_no_larger_than_a_message():
    disk = Disk({"a.bin": bytes(4_000), "b.bin": bytes(4_000)})
    assert "b.bin: has 4000 bytes" in fault(enclose_with(disk=disk), at("a.bin"), at("b.bin"))
    assert disk.read == ["a.bin"]


def test_a_stored_file_without_a_name_needs_one():
    rows = Rows(b"x", filename=None)
    [file_id] = rows.contents
    line = fault(enclose_with(rows=rows), Reference(source=InStore(file_id)))
    assert line == f"attachments: {file_id}: the stored file has no name; give filename"


def test_stored_content_that_is_not_what_its_id_says_is_not_sent():
    rows = Rows(b"x")
    [file_id] = rows.contents
    rows.contents[file_id] = b"y"
    assert "does not have the SHA-256" in fault(enclose_with(rows=rows), Reference(source=InStore(file_id)))


def test_a_database_that_is_away_is_no_fault_of_the_mail():
    class Away(Rows):
        def find(self, file_id):
            raise StoreError("the database is away", transient=True)

    with pytest.raises(StoreError):
        enclose_with(rows=Away())([Reference(source=InStore("0" * 64))])


def test_an_image_of_a_template_comes_from_the_folder_of_templates():
    enclose = enclose_with(templates=Disk({"order/logo.png": b"PNG"}))
    [part] = enclose([Reference(source=InTemplates("order/logo.png"), content_id="logo@x")])
    assert (part.filename, part.content_type, part.content_id) == ("logo.png", "image/png", "logo@x")
