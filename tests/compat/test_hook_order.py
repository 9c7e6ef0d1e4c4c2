"""Hooks: which are called, in which process, in which order; beside gunicorn itself."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.compat.conftest import APPS, DEADLINE_S, Peer
from tests.system.harness import process_alive, wait_until


def live_through(peer: Peer, stopped: Any) -> dict[str, list[list[str]]]:
    """Requests, more and fewer workers, a reload and a stop; what was noted by process role."""
    peer.get("/a?b=c")
    # Called when the client has its answer, so the next request may overtake it.
    peer.noted("post_request")
    assert peer.get("/boom").status == 500
    peer.noted("post_request", 2)
    first = peer.noted("post_worker_init")[0][1]
    peer.signal(signal.SIGTTIN)
    peer.noted("post_worker_init", 2)
    peer.signal(signal.SIGTTOU)
    peer.noted("child_exit")
    peer.signal(signal.SIGHUP)
    peer.noted("on_reload")
    peer.noted("post_worker_init", 3)
    peer.noted("child_exit", 2)
    peer.signal(signal.SIGTERM)
    peer.noted("on_exit")
    assert stopped() == 0
    record = peer.record()
    return {
        "master": [[n, *w] for n, pid, *w in record if pid == str(peer.pid)],
        "worker": [[n, *w] for n, pid, *w in record if pid == first],
        "elsewhere": [[n, *w] for n, pid, *w in record if pid not in (str(peer.pid), first)],
    }


def in_order(notes: list[list[str]]) -> list[str]:
    """Names in the order in which they came first."""
    return list(dict.fromkeys(name for name, *_ in notes))


def test_every_hook_is_called_where_and_when_gunicorn_calls_it(ours: Any, gunicorn: Any) -> None:
    """Master's and worker's, with their arguments; the same file, both servers."""
    mine = ours("every_hook.py", allow_errors=True)
    mine.server.wait_log("worker ready")
    here = live_through(mine, lambda: mine.server.wait_exit(DEADLINE_S))
    theirs = gunicorn("every_hook.py")
    theirs.noted("post_worker_init")

    def ended() -> int:
        # The fixture waits for the process; on_exit was its last word.
        return 0

    there = live_through(theirs, ended)

    assert in_order(here["master"]) == in_order(there["master"]) == [
        "nworkers_changed", "on_starting", "when_ready", "pre_fork", "child_exit", "on_reload",
        "on_exit",
    ]  # fmt: skip
    names = ["post_fork", "post_worker_init", "pre_request", "post_request", "worker_exit"]
    assert in_order(here["worker"]) == in_order(there["worker"]) == names

    def words(notes: list[list[str]], name: str) -> list[list[str]]:
        return [rest for one, *rest in notes if one == name]

    # 1 from nothing, 2 and 1 by TTIN and TTOU, and 1 again by the reload.
    changes = [["1", "None"], ["2", "1"], ["1", "2"], ["1", "1"]]
    assert words(here["master"], "nworkers_changed") == changes
    assert words(there["master"], "nworkers_changed") == changes
    for name in ("on_starting", "when_ready", "on_exit"):
        assert words(here["master"], name) == words(there["master"], name), name
    assert words(here["master"], "pre_fork")[:2] == words(there["master"], "pre_fork")[:2]
    assert words(here["master"], "child_exit") == [["True", "False"]] * 3
    for name in ("post_fork", "post_worker_init", "pre_request", "worker_exit"):
        assert words(here["worker"], name) == words(there["worker"], name), name
    # gunicorn has no status where the application raised; here it is the answer's.
    assert words(there["worker"], "post_request")[0] == ["/a", "200", "True"]
    assert words(here["worker"], "post_request") == [
        ["/a", "200", "True"],
        ["/boom", "500", "True"],
    ]
    errors = [x["event"] for x in mine.server.lines if x["level"] in ("error", "critical")]
    assert errors == ["application failed"]


def test_a_quick_stop_and_an_abort_have_hooks_of_their_own(ours: Any) -> None:
    """worker_int on QUIT; worker_abort on ABRT, whose cause the master still sees."""
    peer = ours("every_hook.py", allow_errors=True)
    peer.server.wait_log("worker ready")
    pid = int(peer.noted("post_fork")[0][1])
    os.kill(pid, signal.SIGABRT)
    peer.server.wait_log("worker ready", 2)
    assert peer.noted("worker_abort")[0][1:] == [str(pid), "True"]
    assert peer.server.logged("worker died")[0]["status"] == "SIGABRT"
    assert any("most recent call first" in line for line in peer.server.noise)
    peer.signal(signal.SIGQUIT)
    assert peer.server.wait_exit() == 0
    (told,) = peer.noted("worker_int")
    assert told[2] == "True"
    assert [words[0] for words in peer.record() if words[1] == told[1]][-2:] == [
        "worker_int",
        "worker_exit",
    ]


def test_the_next_masters_start_has_hooks_too(ours: Any) -> None:
    """pre_exec in the process that becomes it; then its own, from the beginning."""
    peer = ours("every_hook.py")
    peer.server.wait_log("worker ready")
    peer.signal(signal.SIGUSR2)
    (line,) = peer.server.wait_log("upgrading")
    new = str(line["new_pid"])
    peer.server.wait_log("upgrade ready")
    assert peer.noted("pre_exec") == [["pre_exec", new, "True"]]
    assert [words[0] for words in peer.record() if words[1] == new][:5] == [
        "pre_exec", "nworkers_changed", "on_starting", "when_ready", "pre_fork",
    ]  # fmt: skip
    peer.signal(signal.SIGWINCH)
    peer.noted("nworkers_changed", 3)
    assert ["nworkers_changed", str(peer.pid), "0", "1"] in peer.record()
    assert peer.server.stop() == 0
    os.kill(int(new), signal.SIGTERM)
    wait_until(lambda: not process_alive(int(new)), DEADLINE_S, "the new master's end")


HOOKS_THAT_RAISE = """
import os
FAIL = os.environ.get("FAIL", "").split()
if os.path.exists(os.environ["RECORD"]):
    FAIL = open(os.environ["RECORD"]).read().split()
workers = 1
threads = 1
def _hook(name):
    def hook(*arguments):
        if name in FAIL:
            raise RuntimeError("wrong in " + name)
    return hook
def on_starting(server): _hook("on_starting")()
def when_ready(server): _hook("when_ready")()
def on_reload(server): _hook("on_reload")()
def pre_fork(server, worker): _hook("pre_fork")()
def post_fork(server, worker): _hook("post_fork")()
def post_worker_init(worker): _hook("post_worker_init")()
def pre_request(worker, req): _hook("pre_request")()
def post_request(worker, req): _hook("post_request")()
def child_exit(server, worker): _hook("child_exit")()
def worker_exit(server, worker): _hook("worker_exit")()
def on_exit(server): _hook("on_exit")()
def nworkers_changed(server, new, old): _hook("nworkers_changed")()
"""


def failing(serve: Any, folder: Any, *names: str) -> Any:
    """A server whose file has hooks that raise."""
    (folder / "hooks.py").write_text(HOOKS_THAT_RAISE)
    return serve(
        "compat_app:app", "-c", "hooks.py", "--pythonpath", str(APPS), bind=(f"unix:{folder}/w.sock",), workers=None,
        threads=None, env={"FAIL": " ".join(names), "RECORD": str(folder / "record")},
        allow_errors=True,
    )  # fmt: skip


def test_a_hook_at_the_start_that_raises_ends_the_server(serve: Any, tmp_path: Any) -> None:
    """With one line and exit code 1; nothing listens before on_starting has returned."""
    for name in ("on_starting", "when_ready"):
        server = failing(serve, tmp_path, name)
        assert server.wait_exit() == 1
        assert f"hook {name} failed: RuntimeError: wrong in {name}" in server.noise[-1]
        assert any("in on_starting" in line or "in when_ready" in line for line in server.noise)
        assert bool(server.logged("listening")) == (name == "when_ready")


def test_a_hook_at_a_workers_boot_that_raises_is_a_boot_that_failed(
    serve: Any, tmp_path: Any
) -> None:
    """Exit code 3 at the first boot, as for an application that cannot be imported."""
    for name in ("post_fork", "post_worker_init"):
        server = failing(serve, tmp_path, name)
        assert server.wait_exit() == 3
        (line,) = server.logged("worker could not boot")
        assert line["detail"].startswith(f"hook {name} failed: RuntimeError: wrong in {name}")
        assert "Traceback" in line["exception"]


def test_hooks_that_raise_while_serving_are_logged_and_serving_goes_on(
    serve: Any, tmp_path: Any
) -> None:
    """Nothing that depends on nobody may end the server."""
    names = ("nworkers_changed", "post_request", "child_exit", "worker_exit", "on_exit")
    server = failing(serve, tmp_path, *names, "pre_request")
    server.wait_log("worker ready")
    assert server.get("/").status == 500
    assert "wrong in pre_request" in server.wait_log("application failed")[0]["exception"]
    server.wait_log("hook failed", hook="post_request")
    # A reload whose hook raises is given up; the file is read anew, hooks and all.
    (tmp_path / "record").write_text("on_reload")
    server.send_signal(signal.SIGHUP)
    (line,) = server.wait_log("reload failed")
    assert "hook on_reload failed: RuntimeError: wrong in on_reload" in line["detail"]
    (tmp_path / "record").write_text("child_exit worker_exit on_exit nworkers_changed")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded")
    server.wait_log("worker left")
    assert server.get("/").status == 200
    wait_until(lambda: server.logged("hook failed", hook="child_exit"), what="child_exit")
    assert server.stop() == 0
    for name in ("nworkers_changed", "child_exit", "worker_exit", "on_exit"):
        assert server.logged("hook failed", hook=name), name
        assert "wrong in " + name in server.logged("hook failed", hook=name)[0]["exception"]


def test_a_worker_that_may_not_be_forked_is_tried_again(serve: Any, tmp_path: Any) -> None:
    """pre_fork's exception; the next reload's file has none."""
    server = failing(serve, tmp_path, "pre_fork")
    server.wait_log("hook failed", hook="pre_fork")
    (tmp_path / "record").write_text("nothing")
    server.send_signal(signal.SIGHUP)
    server.wait_log("worker ready")
    assert server.get("/").status == 200
