"""Numbers as people read them, for `status` and `top`."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def age(seconds: float) -> str:
    """A time in its two largest units: 3d4h, 2h05m, 7m03s, 12s."""
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600}h"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


def size(number: float | None) -> str:
    """Bytes with a unit."""
    if number is None:
        return "-"
    for unit in _UNITS[:-1]:
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def rate(number: float | None) -> str:
    """Events a second."""
    if number is None:
        return "-"
    return f"{number:.1f}/s" if number < 100 else f"{number:.0f}/s"


def share(number: float | None) -> str:
    """A part of a whole."""
    return "-" if number is None else f"{number:.0%}"


def milliseconds(seconds: float | None) -> str:
    """A short time."""
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"


def cores(number: float | None) -> str:
    """CPUs."""
    return "-" if number is None else f"{number:.2f}"


def counts(numbers: dict[str, float]) -> str:
    """Several counts by name, "none" of none."""
    return ", ".join(f"{name} {number:.0f}" for name, number in numbers.items()) or "none"
