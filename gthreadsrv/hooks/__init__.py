"""The server hooks of gunicorn's configuration files, called with what such files use.

`master` and `worker` call them, each in its process; the other modules are the objects that
hooks are given. Views only: nothing here decides about processes or requests.
"""

from gthreadsrv.hooks.master import MasterHooks
from gthreadsrv.hooks.worker import WorkerHooks

__all__ = ["MasterHooks", "WorkerHooks"]
