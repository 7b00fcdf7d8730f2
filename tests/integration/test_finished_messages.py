"""Finished messages by plain INSERT, over each way of sending: what a signature covers arrives, and verifies."""

from __future__ import annotations

import os
import shutil
import subprocess
from email import message_from_bytes
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import sqlalchemy as sa
from support import smtpfault
from support.mails import always, kinds
from support.message_corpus import corpus
from support.smtpfault import FaultServer

from mailbatch.bootstrap import Parts
from mailbatch.config import Settings
from mailbatch.domain.body import Body
from mailbatch.domain.outcome import Kind
from mailbatch.domain.retry import RetryPolicy
from mailbatch.domain.run import Trigger
from mailbatch.infrastructure.db.backlog import SqlBacklog
from mailbatch.infrastructure.db.engine import connect
from mailbatch.infrastructure.db.runs import SqlRuns
from mailbatch.infrastructure.mime.finished import message_problem
from mailbatch.infrastructure.smtp.relay import SmtpRelay
from mailbatch.infrastructure.smtp.transport import SmtpTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = b"From: ann@example.org\nTo: bob@example.org\nBcc: secret@example.org\nSubject: signed\n"
COVERED = b'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s'
TEXT = b"gr=C3=BC=C3=9Fe  =20\r\n.\r\n..dots\r\nFrom here on\r\n\r\n"
LARGE = TEXT * 9_000
"""More than is read at once."""


def run(*command: str | Path, env: dict[str, str] | None = None) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, env=env).stdout


@pytest.fixture(scope="module")
def openssl(tmp_path_factory) -> Path:
    """Return the folder of a key and its certificate."""
    folder = tmp_path_factory.mktemp("smime")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=ann")
    run("openssl", "req", "-x509", *new, "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    return folder


@pytest.fixture(scope="module")
def gnupg(tmp_path_factory) -> Iterator[dict[str, str]]:
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    env = {**os.environ, "GNUPGHOME": str(home)}
    run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "ann@example.org", "ed25519", "sign", env=env)
    yield env
    run("gpgconf", "--kill", "all", env=env)


def smime(folder: Path, text: bytes, *options: str) -> bytes:
    (folder / "part").write_bytes(COVERED % text)
    key = ("-signer", folder / "cert.pem", "-inkey", folder / "key.pem")
    return HEADER + run("openssl", "cms", "-sign", *key, "-in", folder / "part", *options)


def verify_smime(folder: Path, arrived: bytes) -> bytes:
    (folder / "arrived").write_bytes(arrived)
    return run("openssl", "cms", "-verify", "-noverify", "-in", folder / "arrived", "-certfile", folder / "cert.pem")


def pgp(env: dict[str, str], folder: Path, text: bytes) -> bytes:
    (folder / "part").write_bytes(COVERED % text)
    signature = run("gpg", "--batch", "--armor", "--detach-sign", "-o", "-", folder / "part", env=env)
    return (
        HEADER
        + b"Content-Type: multipart/signed; protocol=application/pgp-signature; micalg=pgp-sha512; boundary=s\n\n"
        + b"--s\n"
        + (COVERED % text).replace(b"\r\n", b"\n")
        + b"\n--s\nContent-Type: application/pgp-signature\n\n"
        + signature
        + b"\n--s--\n"
    )


def verify_pgp(env: dict[str, str], folder: Path, arrived: bytes, text: bytes) -> None:
    assert COVERED % text in arrived
    (folder / "signature").write_text(message_from_bytes(arrived).get_payload()[1].get_payload())
    (folder / "arrived").write_bytes(COVERED % text)
    run("gpg", "--batch", "--verify", folder / "signature", folder / "arrived", env=env)


def sent(database_url: str, mode: str, *messages: bytes) -> list[bytes]:
    """Reserve ``messages`` by plain INSERT, send them as a lane does, and return what arrived."""
    engine = connect(database_url)
    with sa.create_engine(engine.url, poolclass=sa.NullPool).begin() as connection:
        insert = sa.text("INSERT INTO mail_reservations (recipients, message, priority) VALUES (:to, :message, :n)")
        for n, message in enumerate(messages):
            connection.execute(insert, {"to": "bob@example.org, secret@example.org", "message": message, "n": -n})
    backlog = SqlBacklog(engine=engine, lease=60, retry=RetryPolicy(), message_id_domain="example.com")
    run_id = UUID("01a1fc13-5b7f-765d-b8e1-ae4a84d64a17")
    SqlRuns(engine).open(run_id, "send-all", Trigger.MANUAL, 1)
    claimed = backlog.claim(run_id, 0, None, 100).claimed
    compose = Parts(Settings(database_url=database_url)).sending.compose
    with FaultServer(extensions=smtpfault.OFFERS[mode]) as server:
        relay = SmtpRelay(host="127.0.0.1", port=server.port, timeout=20, data_timeout=20)
        composed = [compose(one.mail or backlog.load([one])[0]) for one in claimed]
        assert [isinstance(one.data, Body) for one in composed] == [len(one) > 262_144 for one in messages]
        outcomes = list(SmtpTransport(relay, connections=1, window=8).send(composed, always))
    engine.dispose()
    assert {kind for outcome in outcomes for kind in kinds(outcome).values()} == {Kind.ACCEPTED}
    return [accepted.data for accepted in server.journal]


@pytest.mark.parametrize("mode", smtpfault.OFFERS)
def test_what_openssl_and_gnupg_signed_verifies_when_it_arrives(database_url, mode, openssl, gnupg, tmp_path):
    arrived = sent(
        database_url,
        mode,
        smime(openssl, TEXT),
        smime(openssl, LARGE),
        smime(openssl, TEXT, "-nodetach"),
        pgp(gnupg, tmp_path, TEXT),
        pgp(gnupg, tmp_path, LARGE),
    )
    assert len(arrived) == 5
    for data, text in zip(arrived[:3], (TEXT, LARGE, TEXT), strict=True):
        assert verify_smime(openssl, data) == COVERED % text
    for data, text in zip(arrived[3:], (TEXT, LARGE), strict=True):
        verify_pgp(gnupg, tmp_path, data, text)
    for data in arrived:
        assert b"secret" not in data.partition(b"\r\n\r\n")[0]
        assert message_from_bytes(data)["Date"]
        assert message_from_bytes(data)["Message-ID"]


def test_a_sample_of_odd_messages_and_odd_signed_texts_arrives(database_url, openssl, gnupg, tmp_path):
    odd = [message for message in corpus(seed=5, count=200).values() if message_problem(message) is None][-60:]
    texts = [b"", b"\r\n\r\n", b"x" * 998 + b"\r\n", b".\r\n" * 50, b"ends with blanks \t \r\n", b"no end"]
    signed = [*(smime(openssl, text) for text in texts), *(pgp(gnupg, tmp_path, text) for text in texts)]
    arrived = sent(database_url, "PIPELINING", *odd, *signed)
    for data, message in zip(arrived, odd, strict=False):
        assert read(data) == read(message)
    for data, text in zip(arrived[len(odd) :], texts, strict=False):
        assert verify_smime(openssl, data) == COVERED % text
    for data, text in zip(arrived[-len(texts) :], texts, strict=True):
        verify_pgp(gnupg, tmp_path, data, text)


def read(data: bytes) -> list[tuple[str, bytes]]:
    """Return type and content of each part, as the standard library reads them, without line ends."""
    parts = [part for part in message_from_bytes(data).walk() if not part.is_multipart()]
    contents = [part.get_payload(decode=True) for part in parts]
    plain = [content.translate(None, b"\r\n\0") for content in contents if isinstance(content, bytes)]
    return list(zip((part.get_content_type() for part in parts), plain, strict=True))
