"""The master process: all workers' parent, which serves nobody itself."""

from gthreadsrv.master.serving import serve

__all__ = ["serve"]
