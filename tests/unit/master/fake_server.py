"""A real master over made-up workers: a program for tests, and the handle to run it by.

    python -m tests.unit.master.fake_server FOLDER

The folder holds `settings.json` (read again at HUP), and `behaviour`, which each worker reads
when it boots. Workers serve nobody; they only do what their behaviour says.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[3]
DEADLINE_S = 15.0
T = TypeVar("T")


class Master:
    """A running fake server, and its log."""

    def __init__(self, folder: Path, behaviour: str = "good", **settings: object) -> None:
        self.folder = folder
        self.settings: dict[str, object] = {
            "app": "fake:app",
            "chdir": str(folder),
            "bind": ["127.0.0.1:0"],
            "metrics_bind": "off",
            "workers": 2,
            "threads": 1,
            "log_format": "json",
            "loglevel": "debug",
            "graceful_timeout": 10.0,
        }
        self.lines: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self.behave(behaviour)
        self.configure(**settings)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.master.fake_server", str(folder)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def behave(self, behaviour: str) -> None:
        """What workers that boot from now on do."""
        draft = self.folder / "behaviour.tmp"
        draft.write_text(behaviour)
        draft.replace(self.folder / "behaviour")

    def configure(self, **settings: object) -> None:
        """What the next HUP reads."""
        self.settings.update(settings)
        draft = self.folder / "settings.tmp"
        draft.write_text(json.dumps(self.settings))
        draft.replace(self.folder / "settings.json")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.noise.append(text)

    def logged(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Log lines with this event and these fields."""
        return [
            line
            for line in list(self.lines)
            if line["event"] == event and all(line.get(k) == v for k, v in fields.items())
        ]

    def wait(self, what: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
        """Wait for something true."""
        deadline = time.monotonic() + deadline_s
        while not (value := what()):
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.01)
        return value

    def wait_log(self, event: str, count: int = 1, **fields: object) -> list[dict[str, Any]]:
        """Wait for so many log lines."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.logged(event, **fields)
            return found if len(found) >= count else None

        return self.wait(enough)

    def pids(self) -> list[int]:
        """Workers that are ready and alive, by the log and the kernel."""
        said = [int(line["worker_pid"]) for line in self.logged("worker ready")]
        return [pid for pid in said if alive(pid)]

    def wait_pids(self, count: int) -> list[int]:
        """Wait until exactly so many are."""
        return self.wait(lambda: pids if len(pids := self.pids()) == count else None)

    def address(self, number: int = 0) -> tuple[str, int]:
        """Host and port of a listener."""
        text = self.wait_log("listening", number + 1)[number]["listener"]
        host, _, port = str(text).rpartition(":")
        return host, int(port)

    def send_signal(self, signum: signal.Signals) -> None:
        os.kill(self.process.pid, signum)

    def wait_exit(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code, and the whole log."""
        code = self.process.wait(deadline_s)
        self._reader.join(5)
        return code

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.send_signal(signum)
        return self.wait_exit()

    def told(self) -> list[str]:
        """What workers have written down."""
        path = self.folder / "told"
        return path.read_text().splitlines() if path.exists() else []

    def kill(self) -> None:
        """End everything, whatever state it is in."""
        if self.process.poll() is None:
            for pid in [*children(self.process.pid), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def report(self) -> str:
        return "\n".join([*map(str, self.lines[-40:]), *self.noise[-40:]])


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    """The process's children, zombies included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(name))
    return found


# The program


def tell(folder: Path, text: str) -> None:
    """Write down one line, for the test to read."""
    with open(folder / "told", "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def main(folder: Path) -> int:
    """Serve."""
    import gthreadsrv.log as logs
    from gthreadsrv.errors import ConfigError, GthreadsrvError
    from gthreadsrv.master import serve
    from gthreadsrv.settings import Loaded, Settings
    from gthreadsrv.started import take_note
    from gthreadsrv.worker.channel import BootFailed, RetireRequested, WorkerReady
    from gthreadsrv.worker.context import WorkerContext

    def load() -> Loaded:
        values = json.loads((folder / "settings.json").read_text())
        if values.get("raise") == "hang":
            tell(folder, "reads for ever")
            threading.Event().wait()
        if "raise" in values:
            raise {"config": ConfigError, "bug": RuntimeError}[values["raise"]]("said the file")
        if isinstance(values.get("bind"), list):
            values["bind"] = tuple(values["bind"])
        if values.pop("orphan", False) and not os.fork():
            os._exit(0)
        return Loaded(Settings()._replace(**values), {})

    def run_worker(context: WorkerContext) -> int:
        behaviour = (folder / "behaviour").read_text().split()
        told: list[int] = []
        wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(number, lambda number, _frame: told.append(number))
        match behaviour[0]:
            case "unloadable":
                context.channel.send(BootFailed("no such thing", "Traceback\nValueError: thing"))
                return 3
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise RuntimeError("a bug of ours")
            case "hang":
                threading.Event().wait()
        slot = context.board.slot(context.slot)
        slot.heartbeat(time.monotonic())
        context.channel.send(WorkerReady())
        poll = select.poll()
        poll.register(context.channel, select.POLLIN)
        poll.register(wake, select.POLLIN)
        if "random" in behaviour:
            tell(folder, f"random {random.random()}")
        if "fds" in behaviour:
            tell(folder, f"fds {context.slot} {len(os.listdir('/proc/self/fd'))}")
        if "atexit" in behaviour:
            atexit.register(tell, folder, f"atexit {os.getpid()}")
        if "retire" in behaviour and context.generation == 1 and context.slot < 2:
            context.channel.send(RetireRequested("max_requests"))
        if "modules" in behaviour:
            tell(folder, f"prometheus_client {'prometheus_client' in sys.modules}")
        while True:
            if "mute" not in behaviour:
                slot.heartbeat(time.monotonic())
            poll.poll(50)
            while told:
                number = told.pop(0)
                tell(folder, f"{signal.Signals(number).name} {os.getpid()}")
                if number != signal.SIGUSR1 and "stubborn" not in behaviour:
                    return 0
            if context.channel.master_gone():
                tell(folder, f"orphaned {os.getpid()}")
                return 0

    loaded = load()
    logs.configure(loaded.settings)
    try:
        code = serve(loaded, load, take_note(), run_worker)
    except GthreadsrvError as error:
        print(f"refused: {error}", file=sys.stderr)
        return error.exit_code
    tell(folder, f"master exits {'prometheus_client' in sys.modules}")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
