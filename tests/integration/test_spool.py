"""The spool: contents in a temporary file without a name."""

from __future__ import annotations

import gc
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbatch.domain.content import PIECE, Lines
from mailbatch.domain.errors import ContentUnavailable
from mailbatch.infrastructure.spool import Spool

LINE = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\r\n"
BLOCKS = 3


def content(blocks=BLOCKS):
    return LINE * (PIECE * blocks // len(LINE))


@given(st.lists(st.binary(max_size=PIECE + 9), max_size=4), st.integers(1, 3))
def test_a_content_comes_back_as_it_was_put_in(pieces, times):
    kept = Spool().put(piece * times for piece in pieces)
    data = b"".join(piece * times for piece in pieces)
    assert kept.size == len(data)
    for _ in range(2):
        assert b"".join(kept.pieces()) == data
    assert all(len(piece) <= PIECE for piece in kept.pieces())


def test_a_content_knows_its_lines():
    spool = Spool()
    assert spool.put([b"a\r", b"\n.b\r\n"]).lines == Lines(dotted=1)
    assert spool.put([b"\xfc\r\n", b"end"]).lines == Lines(are_whole=False, are_ascii=False)


def test_contents_are_read_side_by_side(tmp_path):
    spool = Spool(tmp_path)
    one, other = spool.put([content()]), spool.put([content()[::-1]])
    mixed = list(zip(one.pieces(), one.pieces(), other.pieces(), strict=True))
    assert [b"".join(column) for column in zip(*mixed, strict=True)] == [content(), content(), content()[::-1]]


def test_the_file_has_no_name_and_is_opened_for_the_first_content(tmp_path):
    # What earlier tests left must not be closed between the two looks.
    gc.collect()
    before = psutil.Process().num_fds()
    spool = Spool(tmp_path)
    assert psutil.Process().num_fds() == before
    kept = spool.put([content()])
    assert psutil.Process().num_fds() == before + 1
    assert list(tmp_path.iterdir()) == []
    del spool
    assert b"".join(kept.pieces()) == content()
    del kept
    gc.collect()
    assert psutil.Process().num_fds() == before


def test_the_room_of_contents_that_nobody_holds_is_used_again(tmp_path):
    spool = Spool(tmp_path)
    kept = spool.put([b"kept\r\n"])
    for _ in range(20):
        spool.put([content()])
    assert spool.blocks <= 1 + BLOCKS
    assert b"".join(kept.pieces()) == b"kept\r\n"
    del kept
    spool.put([b"next\r\n"])
    assert spool.blocks == 1


@contextmanager
def files_up_to(size):
    """Let no file of this process grow beyond ``size`` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_line_and_takes_no_room(tmp_path):
    spool = Spool(tmp_path)
    with files_up_to(2 * PIECE):
        with pytest.raises(ContentUnavailable, match=f"in {tmp_path} cannot be used: File too large; make room there"):
            spool.put([content()])
        kept = spool.put([content(2)])
    assert b"".join(kept.pieces()) == content(2)


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path):
    with pytest.raises(ContentUnavailable, match="none cannot be used: No such file or directory") as caught:
        Spool(tmp_path / "none").put([b"a"])
    assert "\n" not in str(caught.value)


def test_what_reading_the_source_raises_is_raised(tmp_path):
    def source():
        yield content()
        raise ValueError("the source broke")

    spool = Spool(tmp_path)
    with pytest.raises(ValueError, match="the source broke"):
        spool.put(source())
    assert spool.put([content()]).size == len(content())
    assert spool.blocks == BLOCKS


def test_threads_share_a_spool(tmp_path):
    spool = Spool(tmp_path)

    def put_and_read(n):
        for k in range(20):
            data = b"%d %d\r\n" % (n, k) * (9_000 * (k % 3 + 1))
            assert b"".join(spool.put([data]).pieces()) == data

    with ThreadPoolExecutor(4) as threads:
        for done in threads.map(put_and_read, range(4)):
            assert done is None
