"""One table of settings: flags, variables, the file and the reference come from it."""

from gthreadsrv.settings.loading import load
from gthreadsrv.settings.model import Loaded, Origin, Settings, Source

__all__ = ["Loaded", "Origin", "Settings", "Source", "load"]
