"""Frameworks as their own pages deploy them, with this server's name in place of gunicorn's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.system.conftest import Servers
from tests.system.harness import APPS, Server, clean_environment

# What a page's words leave open is set around them, so that tests can run side by side.
AROUND = {
    "GTHREADSRV_BIND": "127.0.0.1:0",
    "GTHREADSRV_METRICS_BIND": "off",
    "GTHREADSRV_LOG_FORMAT": "json",
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
}

HELLO = """
from flask import Flask

def create_app():
    app = Flask(__name__)

    @app.get("/")
    def hello():
        return "Hello from Flask"

    return app

app = create_app()
"""


def type_in(serve: Servers, folder: Path, words: str) -> Server:
    """Run a command in a shell, with exactly these words."""
    return serve("-", prefix=["sh", "-c", f"exec {words}"], cwd=folder, env=AROUND)


def test_djangos_page(serve: Servers, tmp_path: Path) -> None:
    """`gunicorn myproject.wsgi`, from the folder of manage.py, in a project as generated."""
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "myproject"],
        cwd=tmp_path, env=clean_environment(), check=True,
    )  # fmt: skip
    server = type_in(serve, tmp_path / "myproject", "gthreadsrv myproject.wsgi")
    with server.session() as session:
        session.headers["Host"] = "localhost"
        page = session.get("http://server/")
        assert (page.status_code, "The install worked successfully" in page.text) == (200, True)


@pytest.mark.parametrize(
    "words",
    ["gthreadsrv -w 4 'hello:app'", "gthreadsrv -w 4 'hello:create_app()'"],
    ids=["application", "factory"],
)
def test_flasks_page(serve: Servers, tmp_path: Path, words: str) -> None:
    """`gunicorn -w 4` with an application and with a factory."""
    (tmp_path / "hello.py").write_text(HELLO)
    server = type_in(serve, tmp_path, words)
    assert server.get("/").text == "Hello from Flask"
    assert len(server.wait_workers(4)) == 4


def test_flasks_page_with_gevent(serve: Servers, tmp_path: Path) -> None:
    """`gunicorn -k gevent 'hello:create_app()'`."""
    (tmp_path / "hello.py").write_text(HELLO)
    server = type_in(serve, tmp_path, "gthreadsrv -k gevent 'hello:create_app()'")
    assert server.get("/").text == "Hello from Flask"


def test_flasks_page_on_all_addresses(tmp_path: Path) -> None:
    """`gunicorn -w 4 -b 0.0.0.0 'hello:create_app()'` listens on port 8000 of all addresses."""
    (tmp_path / "hello.py").write_text(HELLO)
    words = "gthreadsrv -w 4 -b 0.0.0.0 'hello:create_app()' --check-config --print-config"
    done = subprocess.run(
        ["sh", "-c", words], cwd=tmp_path, env=clean_environment(AROUND), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert "hello:create_app() can be served" in done.stdout
    [bind] = [line for line in done.stdout.splitlines() if line.split()[0] == "bind"]
    assert "0.0.0.0" in bind


@pytest.mark.parametrize("app", ["pyramid_app:main()", "bottle_app:app", "falcon_app:app"])
def test_other_frameworks(serve: Servers, app: str) -> None:
    """Pages, names in any alphabet, uploads, and pages that are not there."""
    server = serve(app, workers=2, allow_errors=True)
    with server.session() as session:
        for name in ("world", "Zoë", "世界"):
            page = session.get(f"http://server/hello/{name}")
            page.encoding = "utf-8"
            assert page.text == f"Hello, {name}!"
        files = {"file": ("large.bin", os.urandom(2_000_000))}
        assert session.post("http://server/upload", files=files).json() == {"size": 2_000_000}
        assert session.get("http://server/nowhere").status_code == 404
        assert session.delete("http://server/upload").status_code in {404, 405}


def test_asgi_by_a2wsgi(serve: Servers) -> None:
    """Bodies in and out of an ASGI application, by many clients at once."""
    server = serve("asgi_app:app", workers=2)
    failures: list[object] = []

    def client() -> None:
        with server.session() as session:
            for size in (0, 10, 300_000):
                answer = session.post("http://server/size", data=b"x" * size)
                if answer.json() != {"path": "/size", "method": "POST", "size": size}:
                    failures.append(answer.text)
                if answer.headers["x-asgi"] != "yes":
                    failures.append(answer.headers)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert failures == []


def test_asgi_streams_as_it_comes(serve: Servers) -> None:
    """The first piece is there while the application still waits to make the second."""
    server = serve("asgi_app:app")
    go_on = serve.folder / "go"
    with server.session() as session:
        answer = session.get(f"http://server/stream?until={go_on}", stream=True)
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"first"
        go_on.touch()
        assert next(lines) == b"second"


def test_the_readmes_words_for_asgi(serve: Servers, tmp_path: Path) -> None:
    """The module that README shows serves an ASGI application of another module."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("# serve.py\n")[2].partition("\n\n")[0]
    lines = [line.strip() for line in block.splitlines()]
    (tmp_path / "serve.py").write_text("\n".join(lines) + "\n")
    (tmp_path / "myapp.py").write_text((APPS / "asgi_app.py").read_text().replace("app =", "_ ="))
    with (tmp_path / "myapp.py").open("a") as file:
        file.write("app = asgi\n")
    server = type_in(serve, tmp_path, "gthreadsrv serve:app")
    assert server.get("/plain").text == '{"path": "/plain", "method": "GET", "size": 0}'
