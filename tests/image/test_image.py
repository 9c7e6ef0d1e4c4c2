"""The image as an operator runs it: confined, measured, starved of memory, stopped under load."""

from __future__ import annotations

import http.client
import threading
import time
from pathlib import Path

import pytest
import requests

from gthreadsrv_metrics.page import parse_page
from tests.image.conftest import Report
from tests.image.engine import BASE, IMAGE, Container, Engine, running
from tests.system.harness import wait_until

APPS = Path(__file__).with_name("apps")
CONFINED = (
    "--cpus", "0.5", "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "64",
    "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
)  # fmt: skip
WITH_APPS = ("--volume", f"{APPS}:/app:ro")


def get(container: Container, path: str, port: int = 8000) -> requests.Response:
    """One request to the container's own address, on a connection of its own."""
    return requests.get(f"http://{container.address}:{port}{path}", timeout=30)


def sample(container: Container, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    page = parse_page(get(container, "/metrics", 9180).text)
    return sum(
        value
        for found, value in page.get(name, {}).items()
        if labels.items() <= dict(found).items()
    )


def wait_started(container: Container) -> float:
    """Seconds from `docker run` to /startupz saying yes."""

    def started() -> bool:
        try:
            return get(container, "/startupz", 9180).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(started, 60, what=f"{container.name} started: {container.log()}")
    return time.monotonic() - container.started


def test_what_the_image_says_of_itself(engine: Engine, report: Report) -> None:
    """No shell between the engine and the server, a number for a user, a health check."""
    image = engine.inspect(IMAGE, "image")
    config = image["Config"]

    assert config["Entrypoint"] == ["gthreadsrv"]
    assert config["Healthcheck"]["Test"] == ["CMD", "gthreadsrvctl", "health"]
    assert config["User"] == "10001:10001"
    assert set(config["ExposedPorts"]) == {"8000/tcp", "9180/tcp"}
    base = engine.inspect(BASE, "image")
    report["image_mb"] = round(image["Size"] / 1e6)
    report["image_mb_above_base"] = round((image["Size"] - base["Size"]) / 1e6)
    assert report["image_mb_above_base"] < 60


def test_confined(engine: Engine, report: Report) -> None:
    """Half a CPU, 128 MB, no right at all, any user, nothing writable: it serves, and knows."""
    with running(engine, "confined", options=(*CONFINED, "--user", "12345:54321")) as container:
        report["start_seconds_half_cpu"] = round(wait_started(container), 2)
        sizing = next(line for line in container.log() if line["event"] == "sizing")
        assert (sizing["cpus"], sizing["workers"], sizing["threads"]) == (1, 1, 3)
        assert "cpu" in sizing["cpus_from"], sizing
        assert get(container, "/fast").text == "Hello, world!\n"
        # Larger than what is kept in memory, and no file can be made.
        body = b"x" * 5_000_000
        echoed = requests.post(f"http://{container.address}:8000/echo", data=body, timeout=60)
        assert echoed.content == body
        assert sample(container, "gthreadsrv_cgroup_cpu_limit_cores") == 0.5
        assert sample(container, "gthreadsrv_cgroup_memory_limit_bytes") == 128 << 20
        page = get(container, "/metrics", 9180).text
        report["series_one_worker"] = sum(
            1 for line in page.splitlines() if line and not line.startswith("#")
        )
        report["memory_mb_half_cpu"] = round(
            sample(container, "gthreadsrv_cgroup_memory_usage_bytes") / 1e6
        )
        wait_until(lambda: container.health == "healthy", 60, what="healthy")
        began = time.monotonic()
        engine.docker("stop", "--time", "40", container.name)
        report["stop_seconds_idle"] = round(time.monotonic() - began, 2)
        assert container.state["ExitCode"] == 0
        assert not [line for line in container.log() if line["level"] in ("warning", "error")]


def test_start_with_two_cpus(engine: Engine, report: Report) -> None:
    """With the CPU it needs it is there in a moment."""
    with running(engine, "quick", options=("--cpus", "2", "--read-only")) as container:
        report["start_seconds_two_cpus"] = round(wait_started(container), 2)


def test_variables_are_enough(engine: Engine) -> None:
    """A platform's PORT is obeyed, workers and threads are set, and nothing else is needed."""
    env = {
        "PORT": "8123",
        "GTHREADSRV_WORKERS": "2",
        "GTHREADSRV_THREADS": "5",
        "GTHREADSRV_APP": "hungry:app",
    }
    with running(engine, "variables", env=env, options=WITH_APPS) as container:
        wait_started(container)
        assert get(container, "/anything", 8123).text == "/anything"
        assert sample(container, "gthreadsrv_config_workers") == 2
        assert sample(container, "gthreadsrv_config_threads") == 5


def test_a_wrong_variable_is_one_line(engine: Engine) -> None:
    """And exit code 2, so that a restart policy shows it."""
    env = {"GTHREADSRV_THREADS": "many"}
    with running(engine, "wrong", env=env) as container:
        wait_until(lambda: not container.state["Running"], 30, what="it ends")
        assert container.state["ExitCode"] == 2
        assert container.log() == []


def test_a_health_check_that_fails(engine: Engine) -> None:
    """A server whose metrics port does not answer is not healthy, with the reason at hand."""
    options = ("--health-interval", "1s", "--health-retries", "2", "--health-start-period", "1s")
    env = {"GTHREADSRV_METRICS_BIND": "off"}
    with running(engine, "blind", env=env, options=options) as container:
        wait_until(lambda: container.health == "unhealthy", 60, what="unhealthy")
        assert "metrics_bind: off" in container.state["Health"]["Log"][-1]["Output"]


def test_the_example(engine: Engine) -> None:
    """Three lines make an image of one's own, whose own metrics are on the page."""
    with running(engine, "hello", image="hello", options=("--read-only",)) as container:
        wait_started(container)
        assert get(container, "/").text == "Hello from a container!\n"
        assert sample(container, "hello_greetings_total") == 1


def test_a_worker_that_the_kernel_kills_for_memory(engine: Engine) -> None:
    """Its request is lost and counted as what it was; the container goes on, with a new worker."""
    options = (*CONFINED, *WITH_APPS)
    with running(engine, "hungry", "hungry:app", options=options) as container:
        wait_started(container)
        with pytest.raises(requests.ConnectionError):
            get(container, "/eat?400")
        wait_until(
            lambda: sample(container, "gthreadsrv_worker_exits_total", reason="oom") == 1,
            60,
            what="counted",
        )
        assert sample(container, "gthreadsrv_cgroup_oom_kills_total") == 1
        wait_until(
            lambda: get(container, "/readyz", 9180).status_code == 200, 60, what="ready again"
        )
        assert get(container, "/again").text == "/again"
        assert container.state["Running"]
        assert container.state["Pid"]
        [died] = [line for line in container.log() if line["event"] == "worker died"]
        assert (died["reason"], died["status"]) == ("oom", "SIGKILL")


class Visitors:
    """Clients that ask, each request on a new connection, until nobody listens any more."""

    def __init__(self, address: str, count: int) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._address = address
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while True:
            connection = http.client.HTTPConnection(self._address, 8000, timeout=60)
            try:
                connection.connect()
            except OSError:
                return  # refused: no request was sent, and a proxy asks another instance
            try:
                connection.request("GET", "/slow?150", headers={"Connection": "close"})
                response = connection.getresponse()
                whole = response.read() == b"/slow" and response.status == 200
            except (OSError, http.client.HTTPException) as error:
                whole = False
                with self._lock:
                    self.lost.append(repr(error))
            finally:
                connection.close()
            with self._lock:
                self.answered += whole

    def join(self) -> None:
        """Wait until all have been refused."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def test_stop_under_load_loses_nothing(engine: Engine, report: Report) -> None:
    """Eight clients, three threads: what had been accepted, the backlog included, is answered."""
    options = (*CONFINED, *WITH_APPS)
    env = {"GTHREADSRV_DRAIN_DELAY": "1"}
    with running(engine, "leaving", "hungry:app", options=options, env=env) as container:
        wait_started(container)
        visitors = Visitors(container.address, 8)
        wait_until(lambda: visitors.answered >= 40, 60, what="forty answers")
        engine.docker("stop", "--time", "40", container.name)
        visitors.join()
        assert container.state["ExitCode"] == 0
        assert visitors.lost == []
        assert visitors.answered > 40
        report["stop_under_load"] = {"answered": visitors.answered, "lost": len(visitors.lost)}
