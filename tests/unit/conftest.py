"""What unit tests share: no example of a property fails because the machine is busy."""

from __future__ import annotations

import hypothesis

# The default is 200 ms of wall clock for each example.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")
