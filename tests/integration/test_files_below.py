"""Files of mails on a real disk: nothing outside of the folder is opened, and nothing is read that was not checked."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from mailbatch.domain.errors import CannotCompose, ContentUnavailable, ResourceAway
from mailbatch.infrastructure.files.folder import FilesBelow

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"not yours\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "2026").mkdir(parents=True)
    (root / "2026" / "invoice.pdf").write_bytes(b"%PDF" * 50_000)
    return root


def read(root: Path | None, path: str) -> bytes:
    with FilesBelow(root).open(path) as file:
        return b"".join(file.pieces())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names, without a Path for each


@pytest.mark.parametrize("path", ["2026/invoice.pdf", "./2026//invoice.pdf"])
def test_a_file_below_the_folder_is_read(root, path):
    assert read(root, path) == b"%PDF" * 50_000


def test_the_folder_itself_may_be_a_link(root, tmp_path):
    (tmp_path / "current").symlink_to(root)
    assert read(tmp_path / "current", "2026/invoice.pdf").startswith(b"%PDF")


def test_a_name_in_any_script_is_found(root):
    (root / "Grüße 山田.txt").write_bytes(b"hi")
    assert read(root, "Grüße 山田.txt") == b"hi"


def test_a_hard_link_is_a_file_like_any_other(root):
    (root / "hard.pdf").hardlink_to(root / "2026" / "invoice.pdf")
    assert read(root, "hard.pdf").startswith(b"%PDF")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../outside/secret.txt", "has .. in its path"),
        ("2026/../../outside/secret.txt", "has .. in its path"),
        ("2026/..", "has .. in its path"),
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("/proc/self/environ", "absolute"),
        ("", "no path"),
        ("2026/", "no path"),
        (".", "no path"),
        ("a\x00b", "no path"),
        ("a/" * 200 + "b", "no path"),
        ("2026", "no regular file"),
        ("2026/invoice.pdf/x", "no folder"),
        ("nothing.pdf", "is not there"),
        ("x" * 300, "cannot be read"),
        ("a\ud800.pdf", "cannot be read"),
        ("out.txt", "link"),
        ("in.pdf", "link"),
        ("dangling", "link"),
        ("away/secret.txt", "link"),
        ("proc/self/environ", "link"),
        ("fifo", "no regular file"),
        ("socket", "no regular file"),
    ],
)
def test_what_is_no_file_below_the_folder_is_that_mails_error(root, path, why, monkeypatch):
    (root / "out.txt").symlink_to(root.parent / "outside" / "secret.txt")
    (root / "in.pdf").symlink_to("2026/invoice.pdf")
    (root / "dangling").symlink_to("nowhere")
    (root / "away").symlink_to(root.parent / "outside")
    (root / "proc").symlink_to("/proc")
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    before = open_descriptors()
    with pytest.raises(CannotCompose) as caught:
        read(root, path)
    [line] = caught.value.errors
    assert line.startswith("attachments: ")
    assert why in line
    assert line.isprintable()
    assert not isinstance(caught.value, ContentUnavailable)
    assert str(root) not in line, "a mail's error does not say where the folder is"
    assert open_descriptors() == before


def test_a_device_is_no_file_even_without_a_link_to_it(root):
    try:
        os.mknod(root / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(CannotCompose, match="zero: is no regular file"):
        read(root, "zero")


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_a_folder_that_is_none_is_the_runs_fault_and_blocks_nobody(tmp_path, kind):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ResourceAway, match=f"the folder {tmp_path / kind} cannot be opened: Not a directory"):
        read(tmp_path / kind, "a.pdf")


def test_an_unreadable_file_is_that_mails_error(root):
    (root / "secret.pdf").write_bytes(b"x")
    (root / "secret.pdf").chmod(0)
    if os.access(root / "secret.pdf", os.R_OK):
        pytest.skip("root reads every file")
    with pytest.raises(CannotCompose, match=re.escape("secret.pdf: cannot be read: Permission denied")):
        read(root, "secret.pdf")


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_file_that_is_swapped_between_the_look_and_the_opening_is_not_read(root, kind, monkeypatch):
    """The look at the name passes. What counts is the descriptor."""
    victim, real = root / "a.pdf", os.stat
    victim.write_bytes(b"fine")

    def swap(path, **options):
        state = real(path, **options)
        if path == "a.pdf":
            victim.unlink()
            match kind:
                case "link":
                    victim.symlink_to(root.parent / "outside" / "secret.txt")
                case "fifo":
                    os.mkfifo(victim)
                case _:
                    victim.mkdir()
        return state

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(CannotCompose, match=r"link|no regular file"):
        read(root, "a.pdf")


def test_a_folder_that_becomes_a_link_again_and_again_never_leads_out(root):
    """Another thread swaps the folder all the time; what is read is always the file inside."""
    (root / "2026" / "secret.txt").write_bytes(b"mine")
    (root / "link").symlink_to(root.parent / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "2026").rename(root / "kept")
            (root / "link").rename(root / "2026")
            (root / "2026").rename(root / "link")
            (root / "kept").rename(root / "2026")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        outcomes = {_content_or_error(root) for _ in range(2_000)}
    finally:
        stop.set()
        swapping.join()
    assert b"mine" in outcomes
    assert SECRET not in outcomes


def _content_or_error(root: Path) -> bytes:
    try:
        return read(root, "2026/secret.txt")
    except CannotCompose:
        return b""


@pytest.mark.parametrize("change", ["longer", "shorter", "rewritten", "removed", "renamed", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_that_mails_error(root, change):
    path = root / "2026" / "invoice.pdf"
    with FilesBelow(root).open("2026/invoice.pdf") as file:
        pieces = file.pieces()
        next(pieces)
        match change:
            case "longer":
                with path.open("ab") as more:
                    more.write(b"x")
            case "shorter":
                os.truncate(path, 100_000)
            case "removed":
                path.unlink()
            case "renamed":
                path.rename(root / "moved.pdf")
            case "replaced":
                (root / "new").write_bytes(path.read_bytes())
                (root / "new").rename(path)
            case _:
                with path.open("r+b") as again:
                    again.write(b"HTML")
        with pytest.raises(CannotCompose, match="was changed while it was read"):
            list(pieces)


def test_a_file_that_is_replaced_is_another_version(root):
    def version() -> object:
        with FilesBelow(root).open("2026/invoice.pdf") as file:
            return file.version

    before = version()
    assert version() == before
    (root / "new").write_bytes((root / "2026" / "invoice.pdf").read_bytes())
    (root / "new").rename(root / "2026" / "invoice.pdf")
    assert version() != before


def test_a_folder_that_is_away_lets_the_mail_wait(root):
    root.rename(root.parent / "unmounted")
    with pytest.raises(ResourceAway, match=f"the folder {root} cannot be opened: No such file"):
        read(root, "2026/invoice.pdf")


def test_a_file_that_is_missing_in_an_empty_folder_may_only_not_be_mounted(root):
    (root / "2026").rename(root.parent / "2026")
    before = open_descriptors()
    for path in ("2026/invoice.pdf", "invoice.pdf"):
        with pytest.raises(ResourceAway, match=f"the folder {root} is empty; is its file system mounted"):
            read(root, path)
    assert open_descriptors() == before
    (root / "other.pdf").touch()
    with pytest.raises(CannotCompose, match=r"2026/invoice\.pdf: is not there") as caught:
        read(root, "2026/invoice.pdf")
    assert not isinstance(caught.value, ResourceAway)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
@pytest.mark.parametrize("call", ["open", "pread"])
def test_an_error_of_the_machine_or_of_the_whole_file_system_is_no_files_fault(root, number, call, monkeypatch):
    real = getattr(os, call)

    def fail(what, *rest, **options):
        if call == "pread" or what == "invoice.pdf":
            raise OSError(number, os.strerror(number))
        return real(what, *rest, **options)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ResourceAway, match=os.strerror(number)):
        read(root, "2026/invoice.pdf")


def test_an_error_of_the_disk_may_be_that_of_one_file(root, monkeypatch):
    """A bad sector does not go away: the mail must not wait for ever."""
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(ContentUnavailable, match="cannot be read at this moment: Input/output error") as caught:
        read(root, "2026/invoice.pdf")
    assert not isinstance(caught.value, ResourceAway)


def test_without_a_folder_a_path_is_refused():
    with pytest.raises(CannotCompose, match="set MAILBATCH_ATTACHMENT_DIR"):
        read(None, "a.pdf")
