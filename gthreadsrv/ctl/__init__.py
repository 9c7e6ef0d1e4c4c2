"""`gthreadsrvctl`: what a person or a container runtime asks a running server.

It speaks to the metrics port, as Prometheus does, and needs nothing else of the server.
"""
