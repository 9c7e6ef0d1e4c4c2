"""From `module:callable` to the application, or one line that says why not.

Runs once in each worker before it serves (in the master under --preload, and for
--check-config). The text is parsed as Python but never evaluated: names, attributes and
literal arguments only. The application's code runs when it is imported, so this is a
boundary: whatever it raises becomes an AppLoadError that keeps its traceback.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from gthreadsrv.errors import AppLoadError, StopRequestedError
from gthreadsrv.log.trace import trace_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from _typeshed.wsgi import WSGIApplication

__all__ = ["load_app"]

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_USUAL_NAMES = ("application", "app")
_FORMS = "write MODULE, MODULE:CALLABLE or 'MODULE:FACTORY()'"


class _Spec(NamedTuple):
    """What was asked for: a module, names within it, and arguments where it is a factory."""

    text: str
    module: str
    names: tuple[str, ...]
    call: tuple[list[Any], dict[str, Any]] | None


def load_app(spec: str, paste_variables: Sequence[str] = ()) -> WSGIApplication:
    """Import the application that `spec` names; raises AppLoadError.

    `paste:PATH#NAME` is an application of a PasteDeploy file, with `NAME=value` variables.
    """
    if spec.startswith("paste:"):
        return _load_pasted(spec, paste_variables)
    wanted = _parse(spec)
    module = _import(wanted)
    found = _find(wanted, module)
    if wanted.call is not None:
        found = _call(wanted, found)
    _check(wanted, found)
    return cast("WSGIApplication", found)


def _load_pasted(spec: str, variables: Sequence[str]) -> WSGIApplication:
    path, _, name = spec.removeprefix("paste:").partition("#")
    try:
        from paste.deploy import loadapp
    except ImportError:
        raise AppLoadError(
            f"application {spec!r}: reading a PasteDeploy file takes the package PasteDeploy, "
            "which is not installed; pip install PasteDeploy"
        ) from None
    pairs = (item.partition("=") for item in variables)
    wanted = _Spec(spec, "", (), None)
    try:
        found = loadapp(
            f"config:{path}",
            name=name or None,
            global_conf={key.strip(): value.strip() for key, _, value in pairs},
        )
    except (KeyboardInterrupt, StopRequestedError):
        raise
    # It imports and calls the application's code: as with `_import`.
    except BaseException as error:  # noqa: BLE001  kept whole in the AppLoadError
        _failed(wanted, f"loading it failed: {_words(error)}", error)
    _check(wanted, found)
    return cast("WSGIApplication", found)


def _parse(spec: str) -> _Spec:
    module, colon, expression = spec.strip().partition(":")
    if not _MODULE.fullmatch(module):
        hint = _FORMS
        if module.endswith(".py") or "/" in module:
            name = module.removesuffix(".py").strip("./").replace("/", ".")
            hint = f"that is a file, name the module: {name or 'MODULE'}{colon}{expression}"
        raise AppLoadError(f"application {spec!r}: {module!r} is not a module's name; {hint}")
    if not colon:
        return _Spec(spec, module, (), None)
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise AppLoadError(f"application {spec!r}: cannot read {expression!r}; {_FORMS}") from None
    call = None
    if isinstance(node, ast.Call):
        call = _arguments(spec, node)
        node = node.func
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise AppLoadError(f"application {spec!r}: cannot read {expression!r}; {_FORMS}")
    names.append(node.id)
    return _Spec(spec, module, tuple(reversed(names)), call)


def _arguments(spec: str, node: ast.Call) -> tuple[list[Any], dict[str, Any]]:
    try:
        positional = [ast.literal_eval(argument) for argument in node.args]
        named = {
            keyword.arg: ast.literal_eval(keyword.value)
            for keyword in node.keywords
            if keyword.arg is not None
        }
    except ValueError:
        raise _not_literal(spec) from None
    if len(named) != len(node.keywords):
        raise _not_literal(spec)
    return positional, named


def _not_literal(spec: str) -> AppLoadError:
    return AppLoadError(
        f"application {spec!r}: a factory's arguments are plain values (texts, numbers, True, "
        "None, lists); give the rest by environment variables"
    )


def _import(wanted: _Spec) -> ModuleType:
    try:
        return importlib.import_module(wanted.module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Ours is missing only if nothing of the application's has run yet: a package
        # on the way may itself look for the name that it lacks.
        if f"{wanted.module}.".startswith(f"{missing}.") and not _own_frames(error):
            parent, dot, _ = wanted.module.rpartition(".")
            place = f" in the package {parent!r}" if dot and missing == wanted.module else ""
            raise AppLoadError(
                f"application {wanted.text!r}: there is no module {missing!r}{place}; start where "
                "it can be imported, or say where with --chdir or --pythonpath"
            ) from None
        _failed(wanted, f"importing {wanted.module!r}, there is no module {missing!r}", error)
    except (KeyboardInterrupt, StopRequestedError):
        raise
    # Importing runs the application's code, which may raise anything or leave.
    except BaseException as error:  # noqa: BLE001  kept whole in the AppLoadError
        _failed(wanted, f"importing {wanted.module!r} failed: {_words(error)}", error)


def _find(wanted: _Spec, module: ModuleType) -> object:
    if not wanted.names:
        for name in _USUAL_NAMES:
            if hasattr(module, name):
                return getattr(module, name)
        raise AppLoadError(
            f"application {wanted.text!r}: the module has neither `application` nor `app`; "
            f"name the callable, as in {wanted.module}:CALLABLE"
        )
    found: object = module
    path = wanted.module
    for name in wanted.names:
        try:
            found = getattr(found, name)
        except AttributeError:
            raise AppLoadError(
                f"application {wanted.text!r}: {path} has no {name!r}; {_FORMS}"
            ) from None
        path = f"{path}.{name}"
    return found


def _call(wanted: _Spec, factory: object) -> object:
    name = ".".join(wanted.names)
    if not callable(factory):
        raise AppLoadError(
            f"application {wanted.text!r}: {name} is {_kind(factory)}, not a factory; "
            f"without the parentheses it would be {wanted.module}:{name}"
        )
    positional, named = wanted.call or ([], {})
    try:
        return factory(*positional, **named)
    except (KeyboardInterrupt, StopRequestedError):
        raise
    # The factory is the application's code: as with its import.
    except BaseException as error:  # noqa: BLE001  kept whole in the AppLoadError
        _failed(wanted, f"{name}() failed: {_words(error)}", error)


def _check(wanted: _Spec, found: object) -> None:
    """Refuse what can be seen not to be a WSGI application."""
    name = wanted.text
    if not callable(found):
        made = " made" if wanted.call is not None else " is"
        raise AppLoadError(
            f"application {name!r}:{made} {_kind(found)}, not something that can be called with "
            "environ and start_response"
        )
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__):
        raise AppLoadError(
            f"application {name!r} is asynchronous (ASGI); wrap it, as with a2wsgi.ASGIMiddleware"
        )
    try:
        # As it is written: a decorator's word about what it wraps may not be its own.
        signature = inspect.signature(found, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C: only calling it would tell
        return
    try:
        signature.bind({}, None)
    except TypeError:
        taken = ", ".join(signature.parameters)
        hint = ""
        if wanted.call is None and wanted.names and not _required(signature):
            hint = f"; if it is a factory, write '{name}()'"
        raise AppLoadError(
            f"application {name!r} does not take environ and start_response but ({taken}){hint}"
        ) from None


def _required(signature: inspect.Signature) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in variable
    ]


def _failed(wanted: _Spec, what: str, error: BaseException) -> NoReturn:
    raise AppLoadError(f"application {wanted.text!r}: {what}", _traceback(error)) from None


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames that are neither this file's nor the import machinery's."""
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]


def _traceback(error: BaseException) -> str:
    """Python's traceback, from the application's first line on."""
    trace = error.__traceback__
    skipped = (__file__, importlib.__file__)
    while trace is not None and trace.tb_next is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename not in skipped and not filename.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace_of(error, trace)


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
