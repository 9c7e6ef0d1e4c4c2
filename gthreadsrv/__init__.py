"""gthreadsrv: a pre-fork WSGI server with threaded workers that you can see inside."""

__all__ = ["__version__"]

__version__ = "0.1.0"
