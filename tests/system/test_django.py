"""Django as its own tool generates it: the admin, and pages that use the database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.system.conftest import Combination
from tests.system.harness import APPS, Server, clean_environment, wait_until

pytestmark = pytest.mark.greenlets("gevent")

PASSWORD = "a long enough password"
SETTINGS = "DJANGO_SETTINGS_MODULE=site_settings"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project by `startproject`, with one application, its database and a user."""
    folder = tmp_path_factory.mktemp("shop")
    env = clean_environment(
        {
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "DJANGO_SUPERUSER_USERNAME": "admin",
            "DJANGO_SUPERUSER_EMAIL": "admin@shop.example",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }
    )
    env.pop("COVERAGE_PROCESS_CONFIG", None)

    def manage(*command: str, **extra: str) -> None:
        subprocess.run(
            [sys.executable, *command], cwd=folder, env={**env, **extra}, check=True,
            capture_output=True,
        )  # fmt: skip

    manage("-m", "django", "startproject", "shop", ".", DJANGO_SETTINGS_MODULE="")
    shutil.copytree(APPS / "djangosite", folder, dirs_exist_ok=True)
    manage("manage.py", "migrate", "--verbosity", "0")
    manage("manage.py", "createsuperuser", "--noinput")
    return folder


@pytest.fixture(scope="module")
def site(combination: Combination, project: Path) -> Iterator[Server]:
    """The project's own wsgi module, two workers."""
    with combination.server(
        "shop.wsgi:application", "--chdir", str(project), "-e", SETTINGS,
        workers=2, threads=2, allow_errors=True,
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def browser(site: Server) -> Iterator[requests.Session]:
    """A client with cookies."""
    with site.session() as session:
        session.headers["Host"] = "localhost"
        yield session


def csrf(page: str) -> str:
    """The token in a form."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:500]
    return found[1]


def test_admin_login(browser: requests.Session) -> None:
    """The admin's login form is served, takes the password, and opens the admin."""
    page = browser.get("http://server/admin/")
    assert page.status_code == 200
    assert page.url.endswith("/admin/login/?next=/admin/")
    assert "Django administration" in page.text

    form = {
        "csrfmiddlewaretoken": csrf(page.text), "username": "admin", "password": PASSWORD,
        "next": "/admin/",
    }  # fmt: skip
    inside = browser.post("http://server/admin/login/", data=form)
    assert "Site administration" in inside.text
    assert "Books" in inside.text

    page = browser.get("http://server/admin/books/book/add/")
    form = {"csrfmiddlewaretoken": csrf(page.text), "title": "Added in the admin"}
    added = browser.post("http://server/admin/books/book/add/", data=form)
    assert "was added successfully" in added.text


def test_wrong_password_is_refused(browser: requests.Session) -> None:
    """The application's own refusals come through."""
    page = browser.get("http://server/admin/login/")
    form = {"csrfmiddlewaretoken": csrf(page.text), "username": "admin", "password": "wrong"}

    assert "Please enter the correct" in browser.post("http://server/admin/login/", data=form).text
    assert browser.post("http://server/admin/login/", data={}, headers={"Cookie": ""}).status_code


def test_static_files_of_the_admin(browser: requests.Session) -> None:
    """Files by FileResponse, and 304 for a client that has them."""
    page = browser.get("http://server/admin/login/").text
    styles = re.findall(r'href="(/static/[^"]+\.css)"', page)
    assert styles
    for style in styles:
        answer = browser.get(f"http://server{style}")
        assert answer.headers["Content-Type"] == "text/css"
        assert int(answer.headers["Content-Length"]) == len(answer.content) > 0
        stamp = {"If-Modified-Since": answer.headers["Last-Modified"]}
        again = browser.get(f"http://server{style}", headers=stamp)
        assert (again.status_code, again.content) == (304, b"")


def test_page_with_database(browser: requests.Session, combination: Combination) -> None:
    """A page that reads the database; its form writes to it and redirects."""
    title = f"A book for {combination.parser} on {combination.transport}"
    page = browser.get("http://server/")
    posted = browser.post(
        "http://server/", data={"csrfmiddlewaretoken": csrf(page.text), "title": title}
    )

    assert [answer.status_code for answer in posted.history] == [302]
    assert title in posted.text
    assert title in browser.get("http://server/feed").text.splitlines()


def test_many_clients_write_at_once(site: Server, combination: Combination) -> None:
    """Threads of both workers use the database side by side, and no write is lost."""
    titles = [f"{combination.parser} {combination.transport} {number}" for number in range(12)]
    failures: list[str] = []

    def client(title: str) -> None:
        with site.session() as session:
            session.headers["Host"] = "localhost"
            token = csrf(session.get("http://server/").text)
            form = {"csrfmiddlewaretoken": token, "title": title}
            answer = session.post("http://server/", data=form)
            if answer.status_code != 200:
                failures.append(f"{title}: {answer.status_code}")

    clients = [threading.Thread(target=client, args=(title,)) for title in titles]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    with site.session() as session:
        session.headers["Host"] = "localhost"
        found = session.get("http://server/feed").text.splitlines()

    assert failures == []
    assert set(titles) <= set(found)


def test_upload(browser: requests.Session) -> None:
    """A multipart upload larger than Django keeps in memory."""
    files = {"file": ("large.bin", os.urandom(3_000_000))}

    assert browser.post("http://server/upload", files=files).text == "3000000"


def test_broken_view(browser: requests.Session, site: Server) -> None:
    """Django answers its own errors; its log lines are its own too."""
    answer = browser.get("http://server/broken")

    assert answer.status_code == 500
    assert "broken view" in answer.text
    wait_until(lambda: any("broken view" in line for line in site.noise))
