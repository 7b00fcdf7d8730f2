"""Real SMTP servers as relays: how each is installed into var/relays, started, killed, and what it has taken."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest
from support.npm import install
from support.smtpfault import FaultServer
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent / "servers"
INSTALLED = Path(__file__).parents[2] / "var" / "relays"
MADDY, MAILPIT = "0.9.5", "1.33.1"


class Relay:
    """A server process. It keeps each mail in a file of ``folder`` before it says 250, unless a subclass says how."""

    name: ClassVar[str]
    speaks: ClassVar[str]
    refuses = "refused@example.org"
    keeps_itself = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "kept").mkdir(parents=True)
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Bring it into var/relays, or skip."""

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.install()
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )
        wait_until(self._greets, 30, lambda: f"{self.name} greets: {(self.folder / 'log').read_text()[-2000:]}")

    def environment(self) -> dict[str, str]:
        return os.environ | {"NODE_PATH": str(INSTALLED / "npm" / "node_modules"), "KEPT": str(self.folder / "kept")}

    def kill(self) -> None:
        if self.process is not None:
            # With its children: some start the server in a process of its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def taken(self) -> list[bytes]:
        return [one.read_bytes() for one in sorted((self.folder / "kept").iterdir())]

    def _greets(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
                return sock.recv(3) == b"220"
        except OSError:
            return False


class SmtpServer(Relay):
    name, speaks = "smtp-server (nodemailer)", "PIPELINING"

    def install(self) -> None:
        install(HERE / "package.json", INSTALLED / "npm")

    def command(self) -> Sequence[str]:
        return ["node", str(HERE / "smtp-server.js"), str(self.port), str(self.folder / "kept")]


class Haraka(Relay):
    name, speaks = "Haraka", "PIPELINING, nothing ahead"

    def install(self) -> None:
        install(HERE / "package.json", INSTALLED / "npm")
        shutil.copytree(HERE / "haraka", self.folder, dirs_exist_ok=True)
        own = INSTALLED / "npm" / "node_modules" / "Haraka" / "config" / "connection.ini"
        shutil.copy(own, self.folder / "config")
        (self.folder / "config" / "smtp.ini").write_text(f"listen=127.0.0.1:{self.port}\n")

    def command(self) -> Sequence[str]:
        return [str(INSTALLED / "npm" / "node_modules" / ".bin" / "haraka"), "-c", str(self.folder)]


class GoSmtp(Relay):
    name, speaks = "go-smtp", "BDAT"

    def install(self) -> None:
        _go(["build", "-o", str(INSTALLED / "bin" / "go-smtp"), "."], HERE / "go", "go-smtp")

    def command(self) -> Sequence[str]:
        return [str(INSTALLED / "bin" / "go-smtp"), str(self.port), str(self.folder / "kept")]


class Mailpit(Relay):
    name, speaks = "mailpit", "DATA"

    def install(self) -> None:
        self.page = _free_port()
        _go(["install", f"github.com/axllent/mailpit@v{MAILPIT}"], INSTALLED, "mailpit")

    def command(self) -> Sequence[str]:
        return [
            str(INSTALLED / "bin" / "mailpit"),
            *("--smtp", f"127.0.0.1:{self.port}", "--listen", f"127.0.0.1:{self.page}", "--disable-version-check"),
            *("--database", str(self.folder / "mailpit.db"), "--max", "0"),
            *("--smtp-allowed-recipients", "^(ann|bob)"),
        ]

    def taken(self) -> list[bytes]:
        listed = json.loads(self._get("/api/v1/messages?limit=10000"))
        return [self._get(f"/api/v1/message/{one['ID']}/raw") for one in listed["messages"]]

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.page}{path}", timeout=10) as answer:
            return bytes(answer.read())


class HandsOver(Relay):
    """Hands each mail over to the next server, which keeps it."""

    keeps_itself = False

    def __enter__(self) -> Self:
        self.next = FaultServer(extensions=("SIZE 30000000", "8BITMIME", "SMTPUTF8"))
        self.next.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.next.__exit__()

    def taken(self) -> list[bytes]:
        return [accepted.data for accepted in self.next.journal]


class Maddy(HandsOver):
    name, speaks = "maddy", "PIPELINING"
    refuses = "ann@refused.example"

    def install(self) -> None:
        # Not `go install`: its go.mod replaces modules, which counts only in its own folder.
        if not (INSTALLED / "bin" / "maddy").exists():
            _needs("go")
            module = f"github.com/foxcpp/maddy@v{MADDY}"
            said = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, check=False)
            if said.returncode:
                pytest.skip(f"{module} cannot be fetched: {said.stderr.decode().strip()[-200:]}")
            _go(
                ["build", "-o", str(INSTALLED / "bin" / "maddy"), "./cmd/maddy"],
                json.loads(said.stdout)["Dir"],
                "maddy",
            )
        settings = (HERE / "maddy.conf").read_text().format(port=self.port, next=self.next.port)
        (self.folder / "maddy.conf").write_text(f"state_dir {self.folder}\nruntime_dir {self.folder}\n{settings}")

    def command(self) -> Sequence[str]:
        return [str(INSTALLED / "bin" / "maddy"), "-config", str(self.folder / "maddy.conf"), "run"]


class Exim(HandsOver):
    name, speaks = "Exim", "BDAT"

    def install(self) -> None:
        self.binary = _debian("exim4-daemon-light", "usr/sbin/exim4")
        said = subprocess.run([self.binary, "-C", "/dev/null", "-bV"], capture_output=True, text=True, check=False)
        if said.returncode:
            pytest.skip(
                f"needs Exim's library and its user (apt install libidn12; useradd -r Debian-exim): {said.stderr}"
            )
        self.folder.chmod(0o777)
        for folder in list(self.folder.parents)[:3]:
            folder.chmod(0o711)  # Exim gives up root
        (self.folder / "exim.conf").write_text(
            f"""\
primary_hostname = relay.example
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/%slog
exim_path = {self.binary}
exim_user = Debian-exim
exim_group = Debian-exim
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
pid_file_path =
tls_advertise_hosts =
smtputf8_advertise_hosts = *
message_size_limit = 30M
smtp_accept_queue_per_connection = 0
queue_only = false
remote_max_parallel = 4
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
data:
  accept
rcpt:
  deny local_parts = ^refused
       message = no such user
  accept
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = next
begin transports
next:
  driver = smtp
  port = {self.next.port}
  user = Debian-exim
  allow_localhost
  hosts_try_chunking =
  hosts_try_fastopen =
"""
        )

    def command(self) -> Sequence[str]:
        return [str(self.binary), "-C", str(self.folder / "exim.conf"), "-bdf", "-q1m"]


SERVERS = [Haraka, Maddy, SmtpServer, GoSmtp, Mailpit, Exim]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def _go(arguments: Sequence[str], folder: str | Path, program: str) -> None:
    if (INSTALLED / "bin" / program).exists():
        return
    _needs("go")
    (INSTALLED / "bin").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOBIN": str(INSTALLED / "bin"), "GOFLAGS": "-mod=mod"}
    said = subprocess.run(["go", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip(f"go cannot build {program}: {said.stderr.strip()[-200:]}")


def _debian(package: str, program: str) -> Path:
    """A program out of Debian's package, which is unpacked and not installed: mail servers exclude each other."""
    folder = INSTALLED / package
    if os.geteuid() or shutil.which("apt-get") is None:
        pytest.skip(f"needs Debian's {package}, and to be root")
    if not (folder / program).exists():
        folder.mkdir(parents=True, exist_ok=True)
        said = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True, check=False)
        found = next(iter(folder.glob("*.deb")), None)
        if found is None:
            pytest.skip(f"{package} cannot be fetched: {said.stderr.strip()[-200:]}")
        subprocess.run(["dpkg", "-x", str(found), str(folder)], check=True)
    return folder / program
