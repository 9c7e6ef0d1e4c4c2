"""Configuration files as they are published: started, asked, and compared with gunicorn."""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
import socket
from pathlib import Path
from typing import Any

from tests.compat.conftest import APPS, CONFIGS
from tests.system.client import Connection
from tests.system.harness import open_socket, run_cli, wait_until


def test_prometheus_multiprocess(ours: Any, tmp_path: Path) -> None:
    """child_exit with mark_process_dead, in the master, after each worker."""
    shared = tmp_path / "multiproc"
    shared.mkdir()
    peer = ours("prometheus_multiproc.py", env={"PROMETHEUS_MULTIPROC_DIR": str(shared)})
    peer.server.wait_log("worker ready")
    pid = peer.ask()["pid"]
    peer.signal(signal.SIGHUP)
    peer.server.wait_log("reloaded")
    (line,) = peer.server.wait_log(f"marked dead {pid}")
    assert line["pid"] == peer.pid


def test_tracing_and_connections_after_the_fork(ours: Any, gunicorn: Any) -> None:
    """Preloaded in the master, set up in the worker, as with gunicorn."""
    peer = ours("tracing_post_fork.py")
    peer.server.wait_log("worker ready")
    for one in (peer, gunicorn("tracing_post_fork.py")):
        said = one.ask()
        assert said["imported_in"] == one.pid
        assert said["connected_in"] == said["traced_in"] == [said["pid"]]
        assert said["ppid"] == one.pid
    events = [line["event"] for line in peer.server.lines]
    ready = events.index("Server is ready. Spawning workers")
    assert ready < events.index(f"Worker spawned (pid: {said_pid(peer)})")
    assert peer.server.stop(signal.SIGQUIT) == 0
    assert peer.server.logged("worker received INT or QUIT signal")


def said_pid(peer: Any) -> int:
    """The pid of the worker that answers."""
    return int(peer.ask()["pid"])


def test_an_agent_around_the_application(ours: Any, gunicorn: Any) -> None:
    """worker.wsgi replaced in post_worker_init; a field added by pre_request."""
    peer = ours("agent_wrapper.py")
    peer.server.wait_log("worker ready")
    for one in (peer, gunicorn("agent_wrapper.py")):
        answer = one.get("/")
        assert answer.header("X-Agent") == "seen"
        assert json.loads(answer.body)["added"] == "by a hook"


def test_an_agent_around_a_preloaded_application(ours: Any, gunicorn: Any) -> None:
    """server.app.callable replaced in when_ready, and still so after a reload."""
    peer = ours("agent_preloaded.py")
    peer.server.wait_log("worker ready")
    for one in (peer, gunicorn("agent_preloaded.py")):
        assert one.get("/").header("X-Agent") == "seen"
    peer.signal(signal.SIGHUP)
    peer.server.wait_log("reloaded")
    peer.server.wait_log("worker left")
    assert peer.get("/").header("X-Agent") == "seen"


def test_logging_configured_by_a_dictionary(ours: Any, gunicorn: Any) -> None:
    """Error, access and application lines each go where the file says, in its formats."""
    peer = ours("logging_dict.py", allow_errors=True)
    found = []
    for one in (peer, gunicorn("logging_dict.py")):
        one.wait_listening()
        one.get("/health")
        one.get("/log?x=1", User_Agent='curl" "evil": "\\', Referer="http://a/")
        access = [json.loads(line) for line in one.lines("access.log")]
        (request,) = access
        assert "ready on a socket" in [json.loads(x)["message"] for x in one.lines("error.log")]
        assert one.lines("app.log") == ["shop: an item was sold"]
        said = {json.loads(x)["message"] for x in one.lines("error.log")}
        assert "said by the application" in said
        found.append({name: request[name] for name in ("method", "path", "status", "referer")})
        # What the client sent has not become a field.
        assert sorted(request) == [
            "message", "method", "path", "referer", "remote_ip", "status", "user_agent",
        ]  # fmt: skip
    assert found[0] == found[1]
    wait_until(
        lambda: '"worker ready seconds=' in (peer.logs / "error.log").read_text(), 60, "a line"
    )
    # And nothing beside: only what came before the file was read.
    assert not peer.server.logged("worker ready")


def test_logging_configured_again_by_a_reload_and_reopened(ours: Any) -> None:
    """USR1 follows files that were moved away; HUP applies the configuration anew."""
    peer = ours("logging_dict.py", allow_errors=True)
    peer.wait_listening()
    peer.get("/first")
    peer.lines("access.log")
    (peer.logs / "access.log").rename(peer.logs / "access.log.1")
    peer.signal(signal.SIGUSR1)
    wait_until(lambda: (peer.logs / "access.log").exists(), 60, "a new file")

    def written() -> bool:
        peer.get("/second")
        return bool((peer.logs / "access.log").read_text())

    wait_until(written, 60, "a line in the new file")
    peer.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in (peer.logs / "error.log").read_text(), 60, "a reload")
    before = len(peer.lines("access.log"))
    peer.get("/third")
    assert json.loads(peer.lines("access.log", before + 1)[-1])["path"] == "/third"


def test_an_application_below_a_path(ours: Any, gunicorn: Any) -> None:
    """SCRIPT_NAME of the environment comes off every path, unless a proxy says another."""
    peer = ours("mounted.py", metrics=True)
    peer.server.wait_ready()
    for one in (peer, gunicorn("mounted.py")):
        assert one.ask("/shop/a%20b?c")["mount"] == ["/shop", "/a b"]
        assert one.get("/elsewhere").status >= 400
        # A unix socket's peer is trusted.
        with Connection(open_socket(one.address)) as connection:
            connection.request("GET", "/eu/a", {"SCRIPT_NAME": "/eu"})
            said = connection.response().body
        assert json.loads(said)["mount"] == ["/eu", "/a"]
    # It is the application's: the metrics port has no part in it.
    assert peer.server.sample("gthreadsrv_requests_total", code="200") == 2


def test_a_containers_file(ours: Any) -> None:
    """All from the environment; what is not needed is said in one line each, no helper is."""
    peer = ours("container.py", env={"MAX_WORKERS": "2", "GRACEFUL_TIMEOUT": "7"})
    peer.server.wait_workers(min(2, max(2, multiprocessing.cpu_count())))
    peer.ask("/")
    warned = [x["detail"] for x in peer.server.logged("setting ignored or changed")]
    assert len(warned) == 1
    assert re.fullmatch(
        r"worker_tmp_dir: not needed, .*; leave it out \(set by .*container.py:\d+\)", warned[0]
    )
    assert json.loads(peer.server.stdout[0])["workers"] == 2
    assert any('"target":"/"' in line for line in wait_until(lambda: peer.server.stdout[1:]))


def test_the_time_of_each_request(ours: Any, gunicorn: Any) -> None:
    """pre_request leaves a time on the request, post_request logs; alive = False replaces."""
    peer = ours("request_timing.py")
    peer.server.wait_log("worker ready")
    first = said_pid(peer)
    line = wait_until(
        lambda: [x for x in peer.server.lines if re.search(r"\[GET\] / took 0\.\d{6}", x["event"])],
        30,
    )[0]
    assert line["pid"] == first
    assert peer.server.logged("GET /", pid=first)
    peer.get("/grown")
    peer.server.wait_log("worker ready", 2)
    assert said_pid(peer) != first
    other = gunicorn("request_timing.py")
    other.get("/")
    took = re.compile(r"\[GET\] / took 0\.\d{6}")
    wait_until(lambda: took.search((other.logs / "output").read_text()), 60, "gunicorn's line")


def normal(line: str) -> str:
    """An access line without what differs from run to run."""
    line = re.sub(r"t=\[\d+/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", "t=[]", line)
    line = re.sub(r" M=\d+ D=\d+ L=\d+\.\d{6} p=<\d+>$", " M D L p", line)
    # A unix socket's peer has no address: a dash here.
    return line.removeprefix("-")


def test_an_access_log_of_every_atom(ours: Any, gunicorn: Any) -> None:
    """The same line as gunicorn's, but for bytes of the body, which differ with the pids."""
    peer = ours("all_atoms.py")
    peer.server.wait_log("worker ready")
    lines = []
    for one in (peer, gunicorn("all_atoms.py")):
        sent = len(one.get("/p%20q/x?a=1&b=%2F", User_Agent="curl/8", X_Request_Id="id-1").body)
        (line,) = one.lines("access.log")
        assert f" {sent} {sent} " in line
        lines.append(normal(line).replace(str(sent), "N"))
    # PATH_INFO is decoded in gunicorn's %(U)s, and left as it was sent here: no line can be forged.
    assert lines[0].replace("/p%20q/x a=1", "/p q/x a=1") == lines[1]


def test_no_client_forges_a_line_or_a_field(ours: Any) -> None:
    """Quotes, backslashes, line ends and controls stay inside their field, in every format."""
    nasty = 'x" 200 99 "-" "ok\\'
    for config, name in (("all_atoms.py", "access.log"), ("logging_dict.py", "access.log")):
        peer = ours(config, allow_errors=True)
        peer.wait_listening()
        peer.get(
            "/a%0Ab%22%0d?c=%0a\"d'", User_Agent=nasty, Referer='"}\x80\xff', X_Request_Id='"\t"'
        )
        (line,) = peer.lines(name)
        assert line.isascii()
        if config == "all_atoms.py":
            # Quotes come in pairs: those of the format. Ours in a value are escaped.
            assert len(re.findall(r'(?<!\\)(?:\\\\)*"', line)) == 6
        else:
            assert len(json.loads(line)) == 7
        peer.server.stop()
        (peer.logs / name).unlink()


def test_a_file_of_pastedeploy(ours: Any, tmp_path: Path) -> None:
    """The application and its logging come from one INI file, with variables of the command's."""
    ini = tmp_path / "shop.ini"
    ini.write_text((CONFIGS / "pasted.ini").read_text())
    for words, said in (
        (["--paste", "shop.ini"], b"hello from the file"),
        (["--paste", "shop.ini#other", "--paste-global", "stage=given"], b"other given"),
    ):
        peer = ours("/dev/null", *words, allow_errors=True)
        peer.wait_listening()
        assert peer.get("/").body == said
        assert peer.server.stop() == 0
    assert set((tmp_path / "pasted.log").read_text().splitlines()) == {"INFO shop opened"}
    # The file says nothing of the server's logger: its lines go where they went.
    assert peer.server.logged("listening")
    done = run_cli("--check-config", "--paste", "absent.ini", cwd=tmp_path)
    assert done.returncode == 2
    assert "paste: " in done.stderr
    assert "No such file" in done.stderr


def test_print_config_of_a_published_file(tmp_path: Path) -> None:
    """Values with where they came from; what has no effect on standard error."""
    done = run_cli(
        "--print-config", "-c", str(CONFIGS / "container.py"), "compat_app:app", cwd=tmp_path,
        env={"WEB_CONCURRENCY": "3"},
    )  # fmt: skip
    assert done.returncode == 0
    assert re.search(r"^workers +=  ?3 .*container.py:\d+$", done.stdout, re.MULTILINE)
    assert "worker_tmp_dir: not needed" in done.stderr


def test_gunicorns_own_places_are_read(tmp_path: Path) -> None:
    """./gunicorn.conf.py and GUNICORN_CMD_ARGS, below ours; python:MODULE."""
    (tmp_path / "gunicorn.conf.py").write_text("threads = 3\ntimeout = 11\n")
    (tmp_path / "settings_for_test.py").write_text("backlog = 77\n")
    done = run_cli(
        "--print-config", cwd=tmp_path, env={"GUNICORN_CMD_ARGS": "--timeout=12 --spew a:b"}
    )
    shown = dict(re.findall(r"^(\w+) += (\S+)", done.stdout, re.MULTILINE))
    assert (shown["threads"], shown["timeout"], shown["wsgi_app"]) == ("3", "12", "-")
    assert done.stderr.count("\n") == 2
    assert "--spew in GUNICORN_CMD_ARGS" in done.stderr
    (tmp_path / "gthreadsrv.conf.py").write_text("threads = 4\n")
    done = run_cli(
        "--print-config", cwd=tmp_path,
        env={"GUNICORN_CMD_ARGS": "--timeout 12", "GTHREADSRV_CMD_ARGS": "--backlog 9"},
    )  # fmt: skip
    shown = dict(re.findall(r"^(\w+) += (\S+)", done.stdout, re.MULTILINE))
    assert (shown["threads"], shown["timeout"], shown["backlog"]) == ("4", "30", "9")
    assert "GUNICORN_CMD_ARGS: not read" in done.stderr
    done = run_cli("--print-config", "-c", "python:settings_for_test", cwd=tmp_path)
    assert "backlog" in done.stdout
    assert re.search(r"backlog += 77 +# settings_for_test.py:1", done.stdout)


def test_lines_go_to_syslog(ours: Any, tmp_path: Path) -> None:
    """Server's and access lines, marked like gunicorn's; the server's own log goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(30)
        peer = ours(
            "agent_wrapper.py", "--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log#dgram",
            "--log-syslog-prefix", "shop", "--log-syslog-facility", "local3",
        )  # fmt: skip
        peer.server.wait_log("worker ready")
        peer.get("/", User_Agent='a"b')
        got: list[str] = []
        while not any("access" in line for line in got):
            got.append(daemon.recv(65536).decode().rstrip("\0"))
    # local3 is 19: 19 * 8 + 6 (info).
    assert any(re.match(r"<158>gunicorn\.shop\.error: \[\d+\] worker ready ", x) for x in got)
    line = next(x for x in got if "access" in x)
    assert re.match(
        r'<158>gunicorn\.shop\.access: \[\d+\] - - - \[.*\] "GET / HTTP/1.1" 200 ', line
    )
    assert line.endswith('"a\\"b"')


def test_what_is_printed_can_be_captured(ours: Any, tmp_path: Path) -> None:
    """--capture-output: descriptors 1 and 2 are the error log, also after rotation."""
    log = tmp_path / "error.log"
    (tmp_path / "printing_for_test.py").write_text(
        "import os, sys\n"
        "def app(environ, start_response):\n"
        "    print('printed', flush=True)\n"
        "    os.system('echo by a program >&2')\n"
        "    start_response('204 No Content', [])\n"
        "    return []\n"
    )
    peer = ours(
        "agent_wrapper.py", "--capture-output", "--log-file", str(log), "--pythonpath",
        f"{tmp_path},{APPS}", app="printing_for_test:app",
    )  # fmt: skip
    wait_until(lambda: log.exists() and "worker ready" in log.read_text(), 60, "ready")
    peer.get("/")
    assert {"printed", "by a program"} <= set(log.read_text().splitlines())
    log.rename(tmp_path / "error.log.1")
    peer.signal(signal.SIGUSR1)
    wait_until(log.exists, 60, "a new file")

    def written() -> bool:
        peer.get("/")
        return "printed" in log.read_text()

    wait_until(written, 60, "captured in the new file")
