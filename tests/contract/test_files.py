"""Files that mails share: the port ``Files``, and what an ``Intake`` stores and touches."""

from __future__ import annotations

from hashlib import sha256

import pytest
from support.rows import reservation_row

from mailbatch.domain.content import PIECE
from mailbatch.domain.errors import CannotCompose
from mailbatch.domain.reservation import Status

DAY = 86_400.0
LOGO = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


def store(world, content: bytes = LOGO, filename: str | None = "logo.png", content_type: str | None = "image/png"):
    with world.reservations.intake() as intake:
        return intake.store_file(content, filename, content_type)


def read(world, file_id: str) -> bytes:
    return b"".join(world.files.content(world.files.find(file_id)).pieces())


def test_a_file_is_found_by_the_hash_of_its_content(world):
    own = store(world)
    assert own == sha256(LOGO).hexdigest()
    found = world.files.find(own)
    assert (found.id, found.filename, found.content_type, found.size) == (own, "logo.png", "image/png", len(LOGO))
    assert read(world, own) == LOGO
    assert world.files.find("0" * 64) is None


def test_several_files_are_found_at_once_and_those_that_are_not_there_are_left_out(world):
    one, other = store(world), store(world, b"other", None, None)
    found = world.files.some([one, other, "0" * 64])
    assert found == {one: world.files.find(one), other: world.files.find(other)}
    assert world.files.some([]) == {}


def test_the_same_content_is_stored_once_and_keeps_its_name(world):
    assert store(world) == store(world, filename="other.png", content_type=None)
    assert world.files.find(store(world)).filename == "logo.png"


def test_files_may_be_empty_or_without_a_name(world):
    own = store(world, b"", None, None)
    assert (world.files.find(own).size, read(world, own), world.files.find(own).filename) == (0, b"", None)


def test_a_large_file_is_read_in_pieces_and_again(world):
    large = bytes(range(256)) * (20 * PIECE // 256) + b"end"
    content = world.files.content(world.files.find(store(world, large)))
    pieces = list(content.pieces())
    assert (content.size, max(map(len, pieces))) == (len(large), PIECE)
    assert b"".join(pieces) == b"".join(content.pieces()) == large


def test_a_file_that_goes_while_it_is_read_is_an_error_of_the_mail(world):
    own = store(world)
    content = world.files.content(world.files.find(own))
    world.age_files(2 * DAY)
    assert world.files.purge() == 1
    with pytest.raises(CannotCompose, match=f"file {own}: was deleted or changed while it was read"):
        list(content.pieces())


def test_a_block_that_fails_leaves_no_file(world):
    with pytest.raises(ZeroDivisionError), world.reservations.intake() as intake:
        assert 1 / len(intake.store_file(LOGO, None, None)[:0])
    assert world.files.find(sha256(LOGO).hexdigest()) is None


def test_only_files_that_exist_can_be_touched(world):
    own = store(world)
    with world.reservations.intake() as intake:
        assert intake.touch_files([own, "0" * 64]) == {own: len(LOGO)}
        assert intake.touch_files([]) == {}


def test_what_nobody_names_is_purged_a_day_after_it_was_touched(world):
    old, touched, stored_again = store(world, b"old"), store(world, b"touched"), store(world, b"again")
    world.age_files(2 * DAY)
    with world.reservations.intake() as intake:
        assert intake.touch_files([touched]).keys() == {touched}
    assert store(world, b"again") == stored_again
    assert world.files.purge() == 1
    assert world.files.find(old) is None
    assert world.files.find(touched) is not None
    world.age_files(DAY / 2)
    assert world.files.purge() == 0
    world.age_files(DAY)
    assert world.files.purge() == 2


@pytest.mark.parametrize(
    ("attachments", "names"),
    [
        ([{"file": "FILE"}], True),
        ([{"path": "a.pdf"}, {"file": "FILE", "filename": "b"}], True),
        (["x", 5, None, [{"file": "FILE"}]], False),
        ([{"content": "FILE"}], False),
        ([], False),
        (None, False),
    ],
)
def test_a_file_stays_as_long_as_a_reservation_names_it(world, attachments, names):
    own = store(world)
    entries = attachments and [
        {key: own if value == "FILE" else value for key, value in entry.items()} if isinstance(entry, dict) else entry
        for entry in attachments
    ]
    world.put(reservation_row(attachments=entries, status=Status.SENT))
    world.age_files(2 * DAY)
    assert world.files.purge() == (0 if names else 1)
