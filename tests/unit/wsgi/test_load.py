"""Loading an application: every way to name it, and what is said when it cannot be loaded."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gthreadsrv.errors import AppLoadError
from gthreadsrv.wsgi.load import load_app

APP = "def {0}(environ, start_response): return [b'{0}']\n"

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Write a module and say its name; each is new and gone after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    prefix = f"loaded_for_test_{next(_numbers)}"

    def write(text: str, name: str = "") -> str:
        path = tmp_path / f"{prefix}{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        return f"{prefix}{name}".replace("/", ".")

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("loaded_for_test_"):
            del sys.modules[name]


def served(spec: str) -> list[bytes]:
    """What the application that `spec` names answers."""
    return list(load_app(spec)({}, lambda *_: lambda _data: None))


def refusal(spec: str) -> AppLoadError:
    """The error for what cannot be loaded, which is one line."""
    with pytest.raises(AppLoadError) as caught:
        load_app(spec)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return caught.value


def test_a_callable_is_named_after_a_colon(module: Callable[..., str]) -> None:
    """MODULE:CALLABLE, also inside objects."""
    name = module(APP.format("run") + "class Site:\n class inner:\n  wsgi = staticmethod(run)\n")
    assert served(f"{name}:run") == [b"run"]
    assert served(f"{name}:Site.inner.wsgi") == [b"run"]
    assert served(f" {name}: run ") == [b"run"]


def test_a_module_alone_means_its_application_or_app(module: Callable[..., str]) -> None:
    """Django writes `application`, Flask `app`."""
    assert served(module(APP.format("app"), "a")) == [b"app"]
    assert served(module(APP.format("app") + APP.format("application"), "b")) == [b"application"]
    assert "neither `application` nor `app`" in str(refusal(module("x = 1", "c")))


FACTORY = (
    "def make(*args, **named):\n"
    "    return lambda environ, start_response: [repr((args, named)).encode()]\n"
    "class Make:\n"
    "    make = staticmethod(make)\n"
)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("make()", ((), {})),
        ("Make.make('x', debug=True)", (("x",), {"debug": True})),
        ("make('http://x:80/', -1.5, [1, (2,)], {'a': None})",
         (("http://x:80/", -1.5, [1, (2,)], {"a": None}), {})),
    ],
)  # fmt: skip
def test_a_factory_is_called_with_plain_values(
    module: Callable[..., str], call: str, answer: object
) -> None:
    """MODULE:FACTORY(...), parsed and never evaluated."""
    assert served(f"{module(FACTORY)}:{call}") == [repr(answer).encode()]


@pytest.mark.parametrize(
    "call", ["make(make)", "make(1+1)", "make(**{'a': 1})", "make(*[1])", "make(print('x'))"]
)
def test_a_factorys_arguments_run_nothing(module: Callable[..., str], call: str) -> None:
    """Only literals."""
    assert "plain values" in str(refusal(f"{module(FACTORY)}:{call}"))


@pytest.mark.parametrize(
    "call",
    ["", "make(", "1", "make()()", "make().x", "make[0]", "a b", "make;x", "lambda: 1", "\0"],
)
def test_what_is_no_name_is_refused(module: Callable[..., str], call: str) -> None:
    """With the forms that are allowed."""
    assert "write MODULE, MODULE:CALLABLE" in str(refusal(f"{module(FACTORY)}:{call}"))


def test_a_files_name_is_answered_with_the_modules() -> None:
    """A common slip."""
    assert "name the module: shop.wsgi:app" in str(refusal("shop/wsgi.py:app"))
    assert "name the module: app" in str(refusal("./app.py"))
    assert "is not a module's name" in str(refusal("shop-app:app"))


def test_a_module_that_is_not_there_is_told_without_a_traceback(
    module: Callable[..., str],
) -> None:
    """Nothing of the application ran, so there is nothing to trace."""
    error = refusal("not_there_at_all.wsgi:app")
    assert error.traceback == ""
    assert "there is no module 'not_there_at_all'; start where" in str(error)
    package = module("", "/__init__").removesuffix(".__init__")
    error = refusal(f"{package}.wsgi:app")
    assert error.traceback == ""
    assert f"there is no module '{package}.wsgi' in the package '{package}'" in str(error)


def test_a_missing_import_inside_the_application_is_told_with_its_traceback(
    module: Callable[..., str],
) -> None:
    """The module is there; what it needs is not."""
    name = module("import os\nimport not_there_at_all\n")
    error = refusal(f"{name}:app")
    assert f"importing '{name}', there is no module 'not_there_at_all'" in str(error)
    first, second = error.traceback.splitlines()[:2]
    assert first == "Traceback (most recent call last):"
    assert f"{name}.py" in second
    assert error.traceback.rstrip().endswith("No module named 'not_there_at_all'")
    assert "gthreadsrv" not in error.traceback
    assert "importlib" not in error.traceback


def test_a_package_that_looks_for_itself_is_not_called_missing(
    module: Callable[..., str],
) -> None:
    """A typo inside a package may name the very module that was asked for."""
    package = module("", "/__init__").removesuffix(".__init__")
    module(f"import {package}.wsgi\n", "/__init__")
    error = refusal(f"{package}.wsgi:app")
    assert f"importing '{package}.wsgi', there is no module" in str(error)
    assert "__init__.py" in error.traceback


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1/0", "failed: ZeroDivisionError: division by zero"),
        ("x = = 1", "failed: SyntaxError: "),
        ("raise SystemExit(2)", "failed: SystemExit: 2"),
        ("raise ValueError('two\\nlines')", "failed: ValueError: two lines"),
        ("from os import not_there", "failed: ImportError: cannot import name"),
        ("raise Exception", "failed: Exception"),
    ],
)
def test_whatever_an_import_raises_keeps_its_traceback(
    module: Callable[..., str], text: str, words: str
) -> None:
    """The application's own words."""
    error = refusal(f"{module(text)}:app")
    assert words in str(error)
    assert error.traceback


def test_a_factory_that_fails_keeps_its_traceback(module: Callable[..., str]) -> None:
    """Also when it is called wrongly."""
    name = module("def make():\n    return {}['key']\n")
    error = refusal(f"{name}:make()")
    assert "make() failed: KeyError: 'key'" in str(error)
    assert "return {}['key']" in error.traceback
    assert "make() failed: TypeError: " in str(refusal(f"{name}:make(1)"))


NOT_APPS = (
    "text = 'x'\nnothing = None\n"
    "def factory(config=None): pass\n"
    "def view(request): pass\n"
    "async def coroutine(environ, start_response): pass\n"
    "class Asgi:\n    async def __call__(self, scope, receive, send): pass\n"
    "asgi = Asgi()\n"
    "def make_text(): return 'x'\n"
    "def fine(environ, start_response, extra=1): return []\n"
    "class Fine:\n"
    "    def __init__(self, environ, start_response): pass\n"
    "    def __iter__(self): return iter(())\n"
    "def any_call(*args): return []\n"
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "has no 'missing'"),
        ("text.missing", "text has no 'missing'"),
        ("text", "is a str, not something that can be called with environ and start_response"),
        ("nothing", "is None, not something"),
        ("text()", "text is a str, not a factory"),
        ("make_text()", "made a str, not something"),
        ("factory", "does not take environ and start_response but (config); if it is a factory"),
        ("view", "does not take environ and start_response but (request)"),
        ("coroutine", "is asynchronous (ASGI)"),
        ("asgi", "is asynchronous (ASGI)"),
    ],
)
def test_what_is_no_application_is_refused_before_the_first_request(
    module: Callable[..., str], name: str, words: str
) -> None:
    """With what it is instead."""
    assert words in str(refusal(f"{module(NOT_APPS)}:{name}"))


@pytest.mark.parametrize("name", ["fine", "Fine", "any_call"])
def test_what_can_be_called_with_two_arguments_is_an_application(
    module: Callable[..., str], name: str
) -> None:
    """Functions, classes, anything."""
    assert callable(load_app(f"{module(NOT_APPS)}:{name}"))


def test_a_decorator_speaks_for_itself(module: Callable[..., str]) -> None:
    """functools.wraps may point at something with other arguments."""
    name = module(
        "import functools\n"
        "def original(): pass\n"
        "@functools.wraps(original)\n"
        "def app(*args, **named): return [b'ok']\n"
    )
    assert served(f"{name}:app") == [b"ok"]
