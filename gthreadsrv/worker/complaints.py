"""What an application did wrong without its response failing, for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gthreadsrv.http.request import RequestHead
    from gthreadsrv.wsgi.exchange import Exchange

__all__ = ["complain"]


def complain(log: FilteringBoundLogger, head: RequestHead, exchange: Exchange) -> None:
    """Warn of a response that did not fit its head, and of fields that were not sent."""
    if exchange.complaint:
        log.warning(
            "response does not fit its head",
            method=head.method,
            target=head.target,
            detail=exchange.complaint,
        )
    if exchange.aside is not None and exchange.aside.dropped:
        log.warning(
            "hop-by-hop header not sent",
            method=head.method,
            target=head.target,
            headers=list(exchange.aside.dropped),
        )
