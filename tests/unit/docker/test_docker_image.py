"""The Dockerfiles, the lock files and the compose stack, without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gthreadsrv.settings.table import TABLE
from tests.conftest import SEARCH_PATH
from tests.unit.docker.files import DOCKER, ROOT, load

IMAGE = (DOCKER / "Dockerfile").read_text()
SERVICES = load(DOCKER / "compose.yaml")["services"]


def lint(*arguments: str) -> str:
    """What hadolint has to say."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", *arguments],
        cwd=DOCKER, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    """Not even an opinion."""
    assert lint("--failure-threshold", "style", "Dockerfile") == ""
    # DL3006 wants a version in FROM: of an image that one has built oneself, the newest is meant.
    assert lint("--failure-threshold", "style", "--ignore", "DL3006", "example/Dockerfile") == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    """The check is able to fail."""
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd / && pip install x\n")
    assert "DL3006" in lint(str(tmp_path / "Dockerfile"))


def test_any_builder_can_build_it() -> None:
    """Nothing that only BuildKit knows, and nothing fetched to be able to read it."""
    for text in (IMAGE, (DOCKER / "example" / "Dockerfile").read_text()):
        assert "syntax=" not in text
        assert "<<" not in text
        assert "--mount" not in text


def test_the_example_is_three_lines() -> None:
    """The image is a base that needs no explanation."""
    lines = (DOCKER / "example" / "Dockerfile").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["FROM", "COPY", "CMD"]


def test_its_variables_are_settings() -> None:
    """Each GTHREADSRV_ variable that image and compose set is one that the server reads."""
    known = {f"GTHREADSRV_{setting.name.upper()}" for setting in TABLE}
    composed = " ".join(SERVICES["app"]["environment"])
    named = set(re.findall(r"GTHREADSRV_[A-Z_]+", IMAGE + composed))

    assert named - {"GTHREADSRV_BIND"} <= known
    assert named >= {"GTHREADSRV_APP", "GTHREADSRV_METRICS_BIND"}


def test_the_context_is_what_is_copied() -> None:
    """.dockerignore lets in what the Dockerfile asks for, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    sources = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE, re.MULTILINE)).split()

    assert "*" in lines
    assert admitted == {source.rstrip("/") for source in sources}


# -- lock files ------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """Project -> version, of a lock file; each with its hashes."""
    found = {}
    text = (DOCKER / name).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.match(
                r"([\w.-]+)==(\S+)(?: ; [^#]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)$", line
            )
            assert match, line
            found[canonicalize_name(match[1])] = match[2]
    return found


def required(kind: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for: `dependencies`, the extra `fast` or the build's `requires`."""
    # Python 3.10 has no tomllib; these lists are plain.
    [body] = re.findall(
        rf"^{kind} = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    for text in re.findall(r'"([^"]+)"', body):
        yield Requirement(text)


@pytest.mark.parametrize(
    ("lock", "kinds"),
    [("requirements.lock", ("dependencies", "fast")), ("build.lock", ("requires",))],
)
def test_the_lock_is_what_the_project_asks_for(lock: str, kinds: tuple[str, ...]) -> None:
    """Each requirement is pinned to a version that satisfies it; else: make lock."""
    pinned = pins(lock)
    wanted = [one for kind in kinds for one in required(kind)]

    assert wanted
    for one in wanted:
        name = canonicalize_name(one.name)
        assert name in pinned, f"{one} is not in docker/{lock}"
        assert one.specifier.contains(pinned[name]), f"docker/{lock} has {name} {pinned[name]}"
    if lock == "requirements.lock":
        # structlog wants it on Python 3.10; nothing else may slip in.
        assert set(pinned) == {canonicalize_name(one.name) for one in wanted} | {
            "typing-extensions"
        }


# -- compose ---------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    """No right, no writable root, bounded CPU, memory and processes; published on loopback only."""
    service: dict[str, Any] = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cpus"] > 0
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert (
        re.search(r":\d", service["image"])
        or service["image"] == "gthreadsrv"
        or ":v" in service["image"]
    )


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_is_there(name: str) -> None:
    """Each path of this repository exists, and cannot be written to."""
    for volume in SERVICES[name].get("volumes", ()):
        source, _, options = volume.split(":", 1)[0], *volume.rpartition(":")[1:]
        if source.startswith("."):
            assert (DOCKER / source).exists(), volume
            assert options == "ro"


def test_a_stop_is_longer_than_a_request_may_take() -> None:
    """The engine kills after stop_grace_period what the server would still wait for."""
    app = SERVICES["app"]
    grace_s = int(app["stop_grace_period"].removesuffix("s"))
    assert grace_s >= int(app["environment"]["GTHREADSRV_GRACEFUL_TIMEOUT"]) + 5


@pytest.mark.program("promtool")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """With the rules where compose mounts them."""
    text = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["prometheus"]["volumes"])
    rules = (DOCKER / mounts["/etc/prometheus/gthreadsrv"]).resolve()
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/gthreadsrv", str(rules)))
    done = subprocess.run(
        ["promtool", "check", "config", str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gthreadsrv.alerts.yml" in done.stdout


@pytest.mark.program("nginx")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    """With a name for the application that can be resolved here."""
    text = (DOCKER / "nginx" / "nginx.conf").read_text()
    text = text.replace("app:8000", "127.0.0.1:8000").replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text)
    nginx = shutil.which("nginx", path=SEARCH_PATH)
    assert nginx is not None
    done = subprocess.run(
        [nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
