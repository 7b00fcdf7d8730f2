"""The deployment files are valid, keep no secret, and let a mail on the wire finish."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ruamel.yaml import YAML

from mailbatch.batch.heartbeat import STUCK
from mailbatch.config import Settings
from mailbatch.infrastructure.smtp.relay import parse_smtp_url
from mailbatch.interfaces.cli.serve import serve

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
OURS = {"migrate", "worker", "beat", "merged", "serve", "flower"}
SECRETS = {"POSTGRES_PASSWORD": "p" * 24, "FLOWER_PASSWORD": "f" * 24, "MAILBATCH_API_TOKEN": "t" * 24}
RELAY = parse_smtp_url(Settings.model_fields["smtp_url"].default)
HEART = "/tmp/heartbeat"  # noqa: S108 - a disk of the container's own
LONGEST_MAIL = RELAY.timeout + RELAY.data_timeout
"""Seconds for which a relay may leave a mail on the wire without a verdict."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return YAML(typ="safe").load(COMPOSE)["services"]


def seconds(duration: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration))


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


# --- compose ---


def test_the_compose_file_follows_the_compose_specification():
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_docker_compose_accepts_it_and_refuses_it_without_passwords():
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs the docker client with its compose plugin (no daemon)")
    command = [docker, "compose", "--file", COMPOSE, "--env-file", "/dev/null", "--profile", "merged"]
    plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run([*command, "config", "--quiet"], env=plain | SECRETS, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "config", "--quiet"], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "POSTGRES_PASSWORD" in done.stderr


def test_a_plain_up_starts_everything_and_the_merged_form_has_a_profile(services):
    assert {name for name, service in services.items() if "profiles" not in service} == {
        *("postgres", "redis", "migrate", "worker", "beat", "serve", "flower", "mailpit"),
    }
    assert services["merged"]["profiles"] == ["merged"]
    assert "-B" in services["merged"]["command"]
    assert "-B" not in services["worker"]["command"]


def test_every_service_that_stays_is_checked_and_comes_back(services):
    for name, service in services.items():
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"], name


def test_nothing_of_ours_starts_before_the_database_is_migrated(services):
    for name in OURS - {"migrate"}:
        needed = services[name]["depends_on"]
        assert needed["migrate"]["condition"] == "service_completed_successfully", name
        assert needed["redis"]["condition"] == "service_healthy", name
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_a_container_that_stops_lets_the_mail_on_the_wire_finish(services):
    for name in ("worker", "merged"):
        assert seconds(services[name]["stop_grace_period"]) > LONGEST_MAIL, name
    for name in OURS:
        assert isinstance(services[name]["command"], list), "exec form: a shell would swallow SIGTERM"


def test_no_password_stands_in_the_files_and_none_has_a_default():
    text = COMPOSE.read_text(encoding="utf-8")
    for name in re.findall(r"\$\{([A-Z_]*(?:PASSWORD|SECRET|TOKEN))", text):
        assert f"${{{name}:?" in text
        assert not re.search(rf"\$\{{{name}:?-", text), f"{name} has a default"
    assert set(re.findall(r"\$\{([A-Z_]+):\?", text)) == set(SECRETS)
    example = (ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
    for name in SECRETS:
        assert re.search(rf"^{name}=$", example, re.MULTILINE), f"{name} is left for the reader to fill in"


def test_what_is_published_can_be_reached_from_this_machine_only(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"serve", "flower", "mailpit"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_what_has_a_heart_is_asked_for_its_beat_and_for_nothing_that_an_outage_of_redis_would_fail(services):
    for name in ("worker", "beat", "merged"):
        assert services[name]["healthcheck"]["test"] == ["CMD", "mailbatch", "healthcheck"]
        assert services[name]["environment"]["MAILBATCH_HEARTBEAT_FILE"] == HEART


def test_flower_asks_for_a_password(services):
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"].endswith(
        "${FLOWER_PASSWORD:?set it in .env, see deploy/compose.env.example}"
    )


def test_the_settings_in_the_compose_file_are_good_ones(services, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MAILBATCH_")]:
        monkeypatch.delenv(name)
    for name, value in services["worker"]["environment"].items():
        given = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS[found[1]], value)
        given = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", given)
        monkeypatch.setenv(name, str(ROOT / "examples" / "templates") if name.endswith("_DIR") else given)
    settings = Settings()
    assert settings.database_url.endswith("@postgres:5432/mailbatch")
    assert parse_smtp_url(settings.smtp_url).host == "mailpit"


def test_serve_has_one_port_wherever_it_is_named(services):
    port = next(option.default for option in serve.params if option.name == "port")
    assert services["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    places = [COMPOSE, *UNITS, *KUBERNETES.glob("*.yaml"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    named = {
        (path.name, found)
        for path in places
        for found in re.findall(
            r"serve\b[^\n]*?--port[\", ]+(\d+)|containerPort: (\d+)|localhost:(\d+)/api", path.read_text("utf-8")
        )
    }
    assert {"".join(numbers) for _, numbers in named} == {str(port)}, named
    assert {name for name, _ in named} >= {"docker-compose.yml", "mailbatch-serve.service", "serve.yaml", "http.md"}


# --- image ---


def test_the_image_runs_as_nobody_special_and_in_exec_form():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    last_stage = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert re.search(r'^CMD \["celery", ', last_stage, re.MULTILINE)
    assert "pip" not in last_stage, "what builds stays in the first stage"


def test_what_the_image_is_built_from_reaches_the_builder():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE):
        copied |= set(sources.split())
    assert copied == kept
    for name in copied:
        assert (ROOT / name).exists(), name


def test_both_stages_of_the_image_begin_with_the_base_that_may_be_named_by_its_digest():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.search(r"^ARG BASE=", dockerfile, re.MULTILINE)


def test_the_image_installs_what_others_made_by_its_hash_and_ours_without_anything_else():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    installs = re.findall(r"pip (?:install|wheel) (.*?)(?: \\\\)?$", text, re.MULTILINE)
    assert len(installs) == 4
    for options in installs:
        assert "--no-deps" in options, options
        assert "--no-index" in options or "--require-hashes" in options, options


def test_the_lock_file_of_the_image_has_a_hash_for_each_and_the_versions_that_were_tested():
    tested = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+?)(?: ;.*)?$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    )
    locked: dict[str, str] = {}
    for name in ("build", "requirements"):
        text = (ROOT / "deploy" / "image" / f"{name}.txt").read_text("utf-8").replace("\\\n", " ")
        for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
            found = re.fullmatch(r"([a-z0-9._-]+)==(\S+)(?: *;[^-]*?)?((?: +--hash=sha256:[0-9a-f]{64})+)", line)
            assert found, line
            locked[found[1]] = found[2]
    assert {name: version for name, version in locked.items() if tested.get(name) != version} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for name in ("postgres", "http", "webhook", "monitor", "otel") for one in extras[name]),
    ]
    assert {re.split(r"[\[<>=; ]", one)[0] for one in wanted} - locked.keys() == set()
    assert "hatchling" in locked


# --- systemd ---


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_reads_its_settings_from_a_file_and_runs_as_its_own_user(path):
    service = unit(path)["Service"]
    assert service["User"] == "mailbatch"
    assert service["EnvironmentFile"] == "/etc/mailbatch/mailbatch.env"
    assert service["NoNewPrivileges"] == "yes"
    assert "PASSWORD" not in path.read_text(encoding="utf-8").upper()


@pytest.mark.parametrize("name", ["mailbatch.service", "mailbatch-worker.service"])
def test_a_unit_that_stops_lets_the_mail_on_the_wire_finish(name):
    service = unit(ROOT / "deploy" / "systemd" / name)["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) > LONGEST_MAIL
    assert service["Restart"] == "always"


def test_the_units_cover_the_merged_and_the_split_form():
    commands = {path.name: unit(path)["Service"]["ExecStart"] for path in UNITS}
    assert " worker -B " in commands["mailbatch.service"]
    assert " worker " in commands["mailbatch-worker.service"]
    assert " -B" not in commands["mailbatch-worker.service"]
    assert " beat " in commands["mailbatch-beat.service"]
    assert commands["mailbatch-migrate.service"].endswith("/mailbatch migrate")
    assert unit(ROOT / "deploy" / "systemd" / "mailbatch-migrate.service")["Service"]["Type"] == "oneshot"
    conflicts = unit(ROOT / "deploy" / "systemd" / "mailbatch.service")["Unit"]["Conflicts"].split()
    assert conflicts == ["mailbatch-worker.service", "mailbatch-beat.service"]


def test_a_unit_whose_loop_is_stuck_is_started_anew_by_the_watchdog():
    for name in ("mailbatch", "mailbatch-worker", "mailbatch-beat"):
        service = unit(ROOT / "deploy" / "systemd" / f"{name}.service")["Service"]
        assert service["Type"] == "notify"
        # The worker withholds its beat after STUCK seconds; less would end one that only waits for a frozen Redis.
        assert int(service["WatchdogSec"]) > 2 * STUCK


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("needs systemd-analyze")
    for path in UNITS:
        # The programs are not installed here; systemd would complain of that alone.
        text = re.sub(r"/opt/mailbatch/bin/\w+", "/bin/true", path.read_text(encoding="utf-8"))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", *sorted(tmp_path.glob("*.service"))], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "mailbatch" in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_environment_example_holds_settings_that_are_accepted(monkeypatch):
    lines = (ROOT / "deploy" / "mailbatch.env.example").read_text(encoding="utf-8").splitlines()
    for line in [line for line in lines if line and not line.startswith("#")]:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value.strip('"'))
    relay = parse_smtp_url(Settings().smtp_url)
    assert parse_qs(urlsplit(Settings().smtp_url).query) == {"starttls": ["required"]}
    assert relay.port == 587


# --- Kubernetes ---


@pytest.fixture(scope="module")
def manifests() -> dict[str, list[dict[str, Any]]]:
    """The documents of each file, by its name."""
    return {path.name: list(YAML(typ="safe").load_all(path)) for path in sorted(KUBERNETES.glob("*.yaml"))}


def pods(manifests: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The specification of each pod, by the name of what makes it."""
    kinds = ("Deployment", "Job")
    found = [document for documents in manifests.values() for document in documents if document["kind"] in kinds]
    return {document["metadata"]["name"]: document["spec"]["template"]["spec"] for document in found}


def test_every_pod_runs_as_nobody_special_on_a_file_system_that_it_cannot_write(manifests):
    assert set(pods(manifests)) == {f"mailbatch-{name}" for name in ("worker", "beat", "merged", "serve", "migrate")}
    for name, pod in pods(manifests).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False, name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        mounted = {volume["mountPath"] for volume in container["volumeMounts"]}
        sends = name in {"mailbatch-worker", "mailbatch-merged"}
        assert mounted == {str(Path(HEART).parent)} | ({"/spool"} if sends else set()), name


def test_every_pod_that_stays_is_probed(manifests):
    for name, pod in pods(manifests).items():
        (container,) = pod["containers"]
        if name in {"mailbatch-worker", "mailbatch-beat", "mailbatch-merged"}:
            assert container["livenessProbe"]["exec"]["command"] == ["mailbatch", "healthcheck"]
            assert {"name": "MAILBATCH_HEARTBEAT_FILE", "value": HEART} in container["env"]
        elif name == "mailbatch-serve":
            assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
            # An outage of Redis must not take the console away.
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz?of=database"
    for name in ("mailbatch-worker", "mailbatch-merged"):
        assert pods(manifests)[name]["terminationGracePeriodSeconds"] > LONGEST_MAIL


def test_the_settings_of_kubernetes_exist_and_no_secret_stands_among_the_plain_ones(manifests):
    known = {f"MAILBATCH_{name.upper()}" for name in Settings.model_fields}
    (plain,), (secret,) = manifests["settings.yaml"], manifests["secret.example.yaml"]
    assert {*plain["data"], *secret["stringData"]} <= known
    assert not [name for name in plain["data"] if re.search("URL|TOKEN|SECRET|PASSWORD", name)]
    assert all("CHANGE-ME" in value for name, value in secret["stringData"].items() if name != "MAILBATCH_REDIS_URL")
    assert all(isinstance(value, str) for value in plain["data"].values())


def test_the_kustomization_names_the_split_form_and_leaves_the_secret_out(manifests):
    (kustomization,) = manifests["kustomization.yaml"]
    left_out = {"kustomization.yaml", "merged.yaml", "secret.example.yaml"}
    assert set(kustomization["resources"]) == set(manifests) - left_out
    commands = {name: pod["containers"][0]["command"] for name, pod in pods(manifests).items()}
    assert "-B" in commands["mailbatch-merged"]
    assert "-B" not in commands["mailbatch-worker"]
    assert commands["mailbatch-migrate"] == ["mailbatch", "migrate"]


def test_only_serve_can_be_reached(manifests):
    everyone, serve = manifests["networkpolicy.yaml"]
    assert everyone["spec"]["ingress"] == []
    assert set(everyone["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert everyone["spec"]["podSelector"]["matchLabels"].items() <= serve["spec"]["podSelector"]["matchLabels"].items()
    deployment, service = manifests["serve.yaml"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert serve["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"] == labels


def test_kubernetes_accepts_the_manifests():
    checker = shutil.which("kubeconform")
    if not checker:
        pytest.skip("needs kubeconform")
    done = subprocess.run([checker, "-strict", KUBERNETES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
