"""Which user and group workers run as, and the irrevocable change to them.

Resolved in the master while it may still read the account files, applied in each child before
the application is imported.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from gthreadsrv.errors import ConfigError

if TYPE_CHECKING:
    import ctypes

    from gthreadsrv.settings import Settings


_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


class Identity(NamedTuple):
    """A user, a group, and the user's name when it has one: its other groups follow from that."""

    uid: int
    gid: int
    name: str | None

    def assume(self) -> None:
        """Become it, for good."""
        # Now, as its files may be out of the other user's reach; few starts need it.
        import ctypes

        # Groups first: afterwards the right to set them is gone.
        if self.name is None:
            os.setgroups([self.gid])
        else:
            os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)
        if sys.platform == "linux":
            _stay_observable(ctypes.CDLL(None))


def _stay_observable(libc: ctypes.CDLL) -> None:
    """Let processes of the same user look at this one, as if it had been started by that user.

    A change of user makes a process "not dumpable": /proc then hides its memory figures from the
    exporter, and debuggers and core dumps are refused (prctl(2), proc(5)).
    """
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def resolve(settings: Settings) -> Identity | None:
    """The identity the settings name; None when nothing is to change."""
    if settings.user is None and settings.group is None:
        return None
    account = _account(settings.user)
    uid = account.pw_uid if account else int(settings.user or os.geteuid())
    if settings.group is not None:
        gid = _group_id(settings.group)
    else:
        # A user's own group is what dropping privileges is about; root's would stay otherwise.
        gid = account.pw_gid if account else os.getegid()
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() != 0:
        setting, value = ("user", settings.user) if settings.user else ("group", settings.group)
        raise ConfigError(
            f"{setting}: only root can change to {value}, this is uid {os.geteuid()}; "
            f"start as root or leave --{setting} out"
        )
    return Identity(uid, gid, account.pw_name if account else None)


def _account(user: str | None) -> pwd.struct_passwd | None:
    if user is None:
        return None
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():  # containers run as numbers that no account has
            return None
        raise ConfigError(f"user: there is no user {user!r} here (set by --user)") from None


def _group_id(group: str) -> int:
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"group: there is no group {group!r} here (set by --group)") from None
