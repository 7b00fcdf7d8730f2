"""The ports ``Folder`` and ``OpenFile``: a file below the folder is read as it was when it was opened, and no other.

``tests/integration/test_files_below.py`` has what only a disk can do: links, devices, races, errors of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from support.fake_system import FakeFolder

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose, ResourceAway
from mailbatch.infrastructure.files.folder import FilesBelow

if TYPE_CHECKING:
    from pathlib import Path

LARGE = b"%PDF" * (PIECE // 3)


@dataclass
class Disk:
    """A folder on the disk."""

    root: Path

    @property
    def folder(self) -> FilesBelow:
        return FilesBelow(self.root)

    def put(self, path: str, content: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


class Memory:
    """A folder in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folder = FakeFolder(self.files)

    def put(self, path: str, content: bytes) -> None:
        self.files[path] = content


@pytest.fixture(params=["fake", "disk"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return Memory() if request.param == "fake" else Disk(tmp_path)


def version(world: Any, path: str) -> object:
    with world.folder.open(path) as file:
        return file.version


def refusal(folder: Any, path: str) -> str:
    with pytest.raises(CannotCompose) as caught, folder.open(path):
        pass
    [line] = caught.value.errors
    return line


@pytest.mark.parametrize("path", ["2026/invoice.pdf", "./2026//invoice.pdf"])
def test_a_file_is_read_in_pieces(world, path):
    world.put("2026/invoice.pdf", LARGE)
    with world.folder.open(path) as file:
        assert file.size == len(LARGE)
        pieces = list(file.pieces())
    assert b"".join(pieces) == LARGE
    assert max(map(len, pieces)) <= PIECE


def test_it_is_known_again_until_it_changes(world):
    world.put("a.txt", b"one")
    world.put("b.txt", b"one")
    first = version(world, "a.txt")
    assert first == version(world, "a.txt")
    assert first != version(world, "b.txt")
    world.put("a.txt", b"another")
    assert first != version(world, "a.txt")


def test_a_file_that_changes_while_it_is_read_is_refused(world):
    world.put("a.txt", b"one")
    with world.folder.open("a.txt") as file:
        world.put("a.txt", b"another")
        with pytest.raises(CannotCompose, match=r"attachments: a\.txt: was changed while it was read"):
            list(file.pieces())


@pytest.mark.parametrize(
    ("path", "why"),
    [("no.txt", "is not there"), ("../a.txt", r"has .. in its path"), ("/a.txt", "absolute"), ("", "no path")],
)
def test_what_is_not_there_or_outside_is_refused_with_one_line(world, path, why):
    world.put("a.txt", b"one")
    line = refusal(world.folder, path)
    assert line.startswith(f"attachments: {path}: ")
    assert why in line


def test_a_file_that_is_missing_in_an_empty_folder_is_no_mails_fault(world):
    with pytest.raises(ResourceAway, match="is empty; is its file system mounted"), world.folder.open("a.txt"):
        pass
    assert "has .. in its path" in refusal(world.folder, "../a.txt")


@pytest.mark.parametrize("folder", [FakeFolder(None, "templates"), FilesBelow(None, "templates")])
def test_without_a_folder_every_path_is_refused(folder):
    assert refusal(folder, "a.txt").startswith("templates: a.txt: ")
