"""What each colour means, on every dashboard.

Blue is well, gold wants a look, vermilion wants somebody now; grey is a limit or nothing. No
pair that occurs together differs by red and green alone: tests/unit/grafana measures every
pair as people with protanopia, deuteranopia and tritanopia see it.
"""

from __future__ import annotations

from typing import Final

BLUE: Final = "#2F81D6"
SKY: Final = "#8CD3F7"
TEAL: Final = "#00876C"
GOLD: Final = "#E8B33A"
VERMILION: Final = "#D1460B"
PURPLE: Final = "#B65FB0"
GREY: Final = "#9A9A9A"

FINE: Final = BLUE
LOOK: Final = GOLD
ACT: Final = VERMILION
LIMIT: Final = GREY

# Series that are one of several equals. A worker's colour is that of its slot's last digit,
# so it is the same on every panel however many there are.
EQUALS: Final = (BLUE, GOLD, TEAL, PURPLE, SKY, VERMILION, GREY)

CODE_CLASSES: Final = {"1xx": GREY, "2xx": BLUE, "3xx": SKY, "4xx": GOLD, "5xx": VERMILION}
QUANTILES: Final = {"p50": SKY, "p95": BLUE, "p99": PURPLE}
# Planned ends of a worker are blue to grey, the rest is somebody's business.
EXIT_REASONS: Final = {
    "max_requests": SKY,
    "max_lifetime": SKY,
    "max_rss": TEAL,
    "reload": BLUE,
    "scale_down": BLUE,
    "shutdown": GREY,
    "signal": GOLD,
    "heartbeat": PURPLE,
    "request_timeout": PURPLE,
    "boot_error": VERMILION,
    "crash": VERMILION,
    "oom": VERMILION,
}
SPAWN_REASONS: Final = {
    "boot": GREY,
    "reload": BLUE,
    "scale_up": SKY,
    "recycle": TEAL,
    "respawn": VERMILION,
}
CONNECTION_STATES: Final = {"active": BLUE, "reading": GOLD, "writing": PURPLE, "idle": GREY}
