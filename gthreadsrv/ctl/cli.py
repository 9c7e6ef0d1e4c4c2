"""`gthreadsrvctl COMMAND`: arguments in, an exit code out.

Exit codes: 0 yes, 1 no or no answer, 2 a wrong setting or argument.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from gthreadsrv import __version__
from gthreadsrv.ctl.asking import metrics_port
from gthreadsrv.errors import GthreadsrvError
from gthreadsrv.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gthreadsrv.net.address import TcpAddress, UnixAddress

_TIMEOUT_S = 5.0
_LONGEST_S = 3600.0
_WINDOW_S = 10.0
_TOP_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    options = _parser().parse_args(argv)
    try:
        where = _where(options.metrics_bind, options.config)
        return _run(options, where)
    except GthreadsrvError as error:
        sys.stderr.write(f"gthreadsrvctl: error: {error}\n")
        return error.exit_code


def _run(options: argparse.Namespace, where: TcpAddress | UnixAddress) -> int:
    # Each command imports its own: a health check runs every few seconds.
    if options.command == "advise":
        from gthreadsrv.ctl.advise import advise

        return advise(where, options.timeout, options.seconds)
    if options.command == "status":
        from gthreadsrv.ctl.status import status

        return status(where, options.timeout, as_json=options.json)
    if options.command == "top":
        from gthreadsrv.ctl.top import top

        return top(where, options.timeout, options.seconds, once=options.once)
    from gthreadsrv.ctl.health import health

    return health(where, options.timeout, ready=options.ready)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gthreadsrvctl", description="Ask a running gthreadsrv about itself."
    )
    parser.add_argument("--version", action="version", version=f"gthreadsrvctl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "health",
        help="exit 0 when the server lives, 1 with the reason when it does not",
        description="Ask /livez, or /readyz, on the metrics port: a container's health check.",
    )
    command.add_argument(
        "--ready", action="store_true", help="ask whether requests should be sent here now"
    )
    _where_options(command)
    command = commands.add_parser(
        "status",
        help="say how the server is: workers, threads, requests, memory",
        description="One look at the metrics page, in words or as JSON; exit code 1 while the "
        "server is not ready for requests.",
    )
    command.add_argument("--json", action="store_true", help="as JSON, for programs")
    _where_options(command)
    command = commands.add_parser(
        "top",
        help="show workers and threads in the terminal, live (needs the extra `top`)",
        description="Workers, their threads, rates, queue time and memory, looked at again and "
        "again; q or Ctrl-C ends it.",
    )
    command.add_argument("--once", action="store_true", help="print one frame and exit")
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=_TOP_S,
        metavar="SECONDS",
        help="between two looks [%(default)g]",
    )
    _where_options(command)
    command = commands.add_parser(
        "advise",
        help="say what limits the server now, and which setting to change",
        description="Look at the metrics page twice and say in plain words what limits the "
        "server, with the numbers it rests on; nothing when there is nothing to say.",
    )
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=_WINDOW_S,
        metavar="SECONDS",
        help="how long to watch [%(default)g]",
    )
    _where_options(command)
    return parser


def _where_options(command: argparse.ArgumentParser) -> None:
    """Add what every command needs to find the server."""
    command.add_argument(
        "--metrics-bind",
        metavar="ADDRESS",
        help="where the server's metrics port is "
        "[as the environment and the configuration file say, else 127.0.0.1:9180]",
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the server's configuration file")
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=_TIMEOUT_S,
        metavar="SECONDS",
        help="how long to wait for the answer [%(default)g]",
    )


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= _LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0, {_LONGEST_S:g} at most"
        )
    return number


def _where(metrics_bind: str | None, config: str | None) -> TcpAddress | UnixAddress:
    words = []
    if metrics_bind is not None:
        words += ["--metrics-bind", metrics_bind]
    if config is not None:
        words += ["--config", config]
    loaded = load(words, os.environ, os.getcwd(), needs_app=False)
    return metrics_port(loaded.settings.metrics_bind)
